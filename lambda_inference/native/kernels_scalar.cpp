// The reading copy: plain C++, no intrinsics, the oracle for the other tables.
#include "kernels.h"

#define VW 1
namespace rwkv {
namespace {
inline float half_to_float(uint16_t h);
inline float load_f16(const uint16_t* p) { return half_to_float(*p); }
}  // namespace
}  // namespace rwkv
#include "kernels_common.inl"

namespace rwkv {
namespace {

inline float q8_dot(const uint8_t* p, const Activations& x, int64_t row) {
    const int64_t groups = x.k / kGroup;
    const int8_t* q = x.q + row * x.k;
    const float* d = x.d + row * groups;
    float total = 0.0f;
    for (int64_t g = 0; g < groups; ++g, p += kQ8BlockBytes, q += kGroup) {
        const int8_t* w = reinterpret_cast<const int8_t*>(p + 2);
        int32_t sum = 0;
        for (int i = 0; i < kGroup; ++i) sum += w[i] * q[i];
        total += static_cast<float>(sum) * (half_to_float(read_u16(p)) * d[g]);
    }
    return total;
}

inline float q4_dot(const uint8_t* p, const Activations& x, int64_t row) {
    const int64_t groups = x.k / kGroup;
    const int8_t* q = x.q + row * x.k;
    const float* d = x.d + row * groups;
    float total = 0.0f;
    for (int64_t g = 0; g < groups; ++g, p += kQ4BlockBytes, q += kGroup) {
        int32_t sum = 0;
        for (int i = 0; i < 16; ++i) {
            sum += ((p[2 + i] & 15) - 8) * q[i];
            sum += ((p[2 + i] >> 4) - 8) * q[i + 16];
        }
        total += static_cast<float>(sum) * (half_to_float(read_u16(p)) * d[g]);
    }
    return total;
}

void matvec_q8(const void* w, int64_t rows, const Activations& x, float* y) {
    for (int64_t r = 0; r < rows; ++r)
        y[r] = q8_dot(static_cast<const uint8_t*>(w) + r * row_bytes(kQ8, x.k), x, 0);
}

void matvec_q4(const void* w, int64_t rows, const Activations& x, float* y) {
    for (int64_t r = 0; r < rows; ++r)
        y[r] = q4_dot(static_cast<const uint8_t*>(w) + r * row_bytes(kQ4, x.k), x, 0);
}

void gemm_q8(const void* w, int64_t rows, const Activations& x, int64_t tokens, float* y,
             int64_t ldy, void*) {
    for (int64_t t = 0; t < tokens; ++t)
        for (int64_t r = 0; r < rows; ++r)
            y[t * ldy + r] =
                q8_dot(static_cast<const uint8_t*>(w) + r * row_bytes(kQ8, x.k), x, t);
}

void gemm_q4(const void* w, int64_t rows, const Activations& x, int64_t tokens, float* y,
             int64_t ldy, void*) {
    for (int64_t t = 0; t < tokens; ++t)
        for (int64_t r = 0; r < rows; ++r)
            y[t * ldy + r] =
                q4_dot(static_cast<const uint8_t*>(w) + r * row_bytes(kQ4, x.k), x, t);
}

void columns_q8(const void* w, int64_t rows, const Activations& x, int64_t tokens, float* y,
                int64_t ldy) {
    gemm_q8(w, rows, x, tokens, y, ldy, nullptr);
}

void columns_q4(const void* w, int64_t rows, const Activations& x, int64_t tokens, float* y,
                int64_t ldy) {
    gemm_q4(w, rows, x, tokens, y, ldy, nullptr);
}

}  // namespace

const Kernels kernels_scalar = {
    "scalar",
    quantize_row,
    {dequantize_f32, dequantize_f16, dequantize_q8, dequantize_q4},
    {matvec_f32, matvec_f16, matvec_q8, matvec_q4},
    {columns_f32, columns_f16, columns_q8, columns_q4},
    {16, 16, 16, 16},
    {gemm_f32, gemm_f16, gemm_q8, gemm_q4},
    layer_norm, lerp, add, add_gated, tanh_all, sigmoid_all, relu_square, wkv4, wkv7,
};

}  // namespace rwkv
