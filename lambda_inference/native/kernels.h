// The arithmetic of the engine, one table of functions per instruction set.
//
// Every table computes the same thing; kernels_scalar.cpp is the reading copy
// and the oracle that tests/lambda_inference/native/kernel_test.cpp compares the others with.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rwkv {

// Numbers as in the GGUF file format.
enum class TensorType : uint32_t { F32 = 0, F16 = 1, Q4_0 = 2, Q8_0 = 8 };

// Index of a type in the function tables below.
enum TypeSlot { kF32 = 0, kF16 = 1, kQ8 = 2, kQ4 = 3, kTypeSlots = 4 };

constexpr int64_t kGroup = 32;             // elements that share a scale
constexpr int64_t kQ8BlockBytes = 34;      // f16 scale, 32 x int8
constexpr int64_t kQ4BlockBytes = 18;      // f16 scale, 16 bytes of nibbles
constexpr int64_t kTileRows = 16;          // output rows of one matrix-product tile
constexpr int64_t kGemmRows = 64;          // rows a matrix product takes at once
constexpr int64_t kMaxTokens = 128;        // and tokens
constexpr int64_t kMaxHeadSize = 256;
constexpr size_t kScratchBytes = 128 * 1024;  // per thread, for gemm; 64-byte aligned

// Activations: `rows` of length k, as floats and (where a quantized matrix
// reads them) as int8 in groups of 32. q is within [-127, 127]; d[g] is the
// scale; s[g] is -128 * sum(q of the group), which turns a product with
// weights shifted to unsigned back into the signed one.
struct Activations {
    const float* f;
    const int8_t* q;
    const float* d;
    const int32_t* s;
    int64_t k;
};

// One RWKV-4 layer's time mixing over `tokens` steps, channels [c0, c1).
struct Wkv4 {
    const float* k;      // [tokens, stride]
    const float* v;
    const float* r;      // before the sigmoid
    float* out;          // sigmoid(r) * wkv
    const float* decay;  // -exp(time_decay), [n]
    const float* first;  // time_first, [n]
    const float* aa_in;  // state before, [n] each
    const float* bb_in;
    const float* pp_in;
    float* aa;           // state after, may be the one before
    float* bb;
    float* pp;
    int64_t stride;
    int64_t tokens;
};

// One RWKV-7 layer's time mixing over `tokens` steps; a call does one head.
// Arrays are [tokens, stride]; the state of a head is [key j][value i].
struct Wkv7 {
    const float* r;
    const float* w;        // LoRA output, before bias and squashing
    const float* k;
    float* v;              // replaced by the value with the residual mixed in
    const float* a;        // LoRA output
    const float* v_mix;    // LoRA output, null in the first layer
    const float* v_first;  // first layer's values, null in the first layer
    const float* g;
    float* out;
    const float* w0;
    const float* a0;
    const float* v0;
    const float* k_k;
    const float* k_a;
    const float* r_k;
    const float* ln_w;
    const float* ln_b;
    const float* state_in;  // of the layer: [heads, n, n]
    float* state_out;       // may be state_in
    int64_t stride;
    int64_t tokens;
    int64_t head_size;
};

struct Kernels {
    const char* name;

    // int8 groups of 32; k is a multiple of 32.
    void (*quantize)(const float* x, int64_t k, int8_t* q, float* d, int32_t* s);
    // Row of a matrix as floats (the embedding).
    void (*dequantize[kTypeSlots])(const void* row, int64_t k, float* y);
    // y[rows] = W x, for one row of activations.
    void (*matvec[kTypeSlots])(const void* w, int64_t rows, const Activations& x, float* y);
    // y[t * ldy + row] = W x_t for a few tokens, the weights as they lie in memory.
    void (*columns[kTypeSlots])(const void* w, int64_t rows, const Activations& x, int64_t tokens,
                                float* y, int64_t ldy);
    // From how many tokens on repacking the weights, as gemm does, is repaid.
    int64_t gemm_from[kTypeSlots];
    // The same, rows <= kGemmRows, tokens <= kMaxTokens.
    void (*gemm[kTypeSlots])(const void* w, int64_t rows, const Activations& x, int64_t tokens,
                             float* y, int64_t ldy, void* scratch);

    void (*layer_norm)(const float* x, const float* weight, const float* bias, int64_t n,
                       float eps, float* y);
    // y = x + (prev - x) * mix
    void (*lerp)(const float* x, const float* prev, const float* mix, int64_t n, float* y);
    void (*add)(float* x, const float* y, int64_t n);
    // x += sigmoid(gate) * y
    void (*add_gated)(float* x, const float* gate, const float* y, int64_t n);
    void (*tanh)(float* x, int64_t n);
    void (*sigmoid)(float* x, int64_t n);
    void (*relu_square)(float* x, int64_t n);
    void (*wkv4)(const Wkv4& a, int64_t c0, int64_t c1);
    void (*wkv7)(const Wkv7& a, int64_t head);
};

// Tables this build contains and this processor can run, best first.
// Ends with a null pointer.
const Kernels* const* supported_kernels();

// The best table, or the one named by FRIEND_ISA (scalar, avx2, avx512, neon,
// neon_dotprod). Throws std::runtime_error for a name that cannot run here.
const Kernels& choose_kernels();

extern const Kernels kernels_scalar;
#if defined(__x86_64__) || defined(_M_X64)
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512;
#endif
#if defined(__aarch64__)
extern const Kernels kernels_neon;
extern const Kernels kernels_neon_dotprod;
#endif

static inline int64_t row_bytes(int slot, int64_t k) {
    switch (slot) {
        case kF32: return k * 4;
        case kF16: return k * 2;
        case kQ8: return k / kGroup * kQ8BlockBytes;
        default: return k / kGroup * kQ4BlockBytes;
    }
}

}  // namespace rwkv
