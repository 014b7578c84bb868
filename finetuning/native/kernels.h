// Training kernels: one table an instruction set, each compiled from the same source.
#pragma once

#include <cstdint>

namespace friend_kernels {

// Steps between two states that the forward pass keeps for the backward pass.
constexpr int64_t kChunk = 16;

constexpr int64_t chunks(int64_t time) { return (time + kChunk - 1) / kChunk; }

// RWKV-7's recurrence for each row and head, all arrays [batch, time, heads, size] unless said
// otherwise; log_w is the logarithm of the decay, states are [batch, heads, size value, size key].
//   u_t = S_{t-1} a_t;   S_t = S_{t-1} diag(w_t) + u_t b_t^T + v_t k_t^T;   y_t = S_t r_t
struct Wkv7 {
    int64_t batch, time, heads, size;
    const float *r, *log_w, *k, *v, *a, *b, *state;
};

// What the backward pass needs is kept if there is room for it: u like y; kept
// [batch, heads, chunks, size key, size value], the state before each chunk.
struct Wkv7Results {
    float *y, *last;
    float *u, *kept;
};

struct Wkv7Gradients {
    const float *u, *kept;
    const float *dy, *dlast;  // dlast may be null: zeros
    float *dr, *dlog_w, *dk, *dv, *da, *db, *dstate;
};

// An array of floats, or of bfloat16 (`narrow`).
struct Either {
    void* data;
    bool narrow;
};

constexpr int kMixes = 6;

// Each step between its input and the one before it, in up to kMixes ways:
//   out_i = x_t + (x_{t-1} - x_t) mix_i;   x [batch, time, width], the one before them last
// [batch, width], mix [mixes, width]. The arrays in out are all narrow or none is.
struct Mix {
    int64_t batch, time, width, mixes;
    const float *x, *last, *mix;
};

// What the recurrence reads, from three products k, w, a [steps, heads, size] and four vectors
// [heads, size] each: w0, a0, k_k, k_a.
//   rate = sigmoid(a0 + a);  log_w = scale sigmoid(w0 + w);  kk = k k_k / |k k_k| by head
//   key = k (1 + (rate - 1) k_a);   removed = -kk;   added = kk rate
struct Operands {
    int64_t steps, heads, size;
    float scale;
    const float *k, *w, *a, *vectors;
};

struct Kernels {
    const char* name;
    int64_t lanes;  // sizes of heads and widths are multiples of this
    void (*wkv7_forward)(const Wkv7&, const Wkv7Results&);
    void (*wkv7_backward)(const Wkv7&, const Wkv7Gradients&);
    void (*mix_forward)(const Mix&, const Either* out);
    void (*mix_backward)(const Mix&, const Either* dout, float* dx, float* dlast, float* dmix);
    // y = max(x, 0)^2 of `count` values, a multiple of the lanes; dx = 2 max(x, 0) dy.
    void (*relu_square_forward)(int64_t count, Either x, Either y);
    void (*relu_square_backward)(int64_t count, Either x, Either dy, Either dx);
    // log_w, key, removed, added; their gradients; those of k, w, a, and of the vectors.
    void (*operands_forward)(const Operands&, float* const out[4]);
    void (*operands_backward)(const Operands&, const float* const dout[4], float* const d[3],
                              float* dvectors);
};

extern const Kernels kernels_avx512;
extern const Kernels kernels_avx2;
extern const Kernels kernels_baseline;

// Ends with a null pointer, best first.
const Kernels* const* supported_kernels();

}  // namespace friend_kernels
