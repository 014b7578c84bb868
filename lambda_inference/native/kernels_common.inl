// Kernels written once and compiled once per instruction set: everything that
// is plain floating point. The file that includes this defines, before it,
//   VW                 floats in a vector (1 for the scalar table)
//   load_f16(p)        VW half floats at p as a vf
// Everything is static: a function compiled for one instruction set must never
// be the copy that the linker keeps for another.

namespace rwkv {
namespace {

#if VW == 1
typedef float vf;
#else
typedef float vf __attribute__((vector_size(VW * 4), aligned(4), may_alias));
#endif

inline float half_to_float(uint16_t h) {
    const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
    const uint32_t exponent = (h >> 10) & 0x1fu;
    const uint32_t mantissa = h & 0x3ffu;
    uint32_t bits;
    if (exponent == 0) {
        // Zero and subnormals: mantissa * 2^-24, exact in a float.
        const float magnitude = static_cast<float>(mantissa) * 5.9604644775390625e-8f;
        __builtin_memcpy(&bits, &magnitude, 4);
        bits |= sign;
    } else if (exponent == 31) {
        bits = sign | 0x7f800000u | (mantissa << 13);
    } else {
        bits = sign | ((exponent + 112u) << 23) | (mantissa << 13);
    }
    float f;
    __builtin_memcpy(&f, &bits, 4);
    return f;
}

inline uint16_t read_u16(const uint8_t* p) {
    uint16_t v;
    __builtin_memcpy(&v, p, 2);
    return v;
}

// exp to about 1 ulp over the float range, without branches, so that loops
// over it vectorize. Cephes' reduction and polynomial (S. Moshier, expf).
inline float exp_f(float x) {
    x = x > -87.3f ? x : -87.3f;
    x = x < 88.0f ? x : 88.0f;
    const float n = (x * 1.44269504088896341f + 12582912.0f) - 12582912.0f;
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    const int32_t bits = (static_cast<int32_t>(n) + 127) * (1 << 23);
    float scale;
    __builtin_memcpy(&scale, &bits, 4);
    return p * scale;
}

inline float sigmoid_f(float x) { return 1.0f / (1.0f + exp_f(-x)); }

inline float max_f(float a, float b) { return a > b ? a : b; }

inline float sum(const vf& v) {
#if VW == 1
    return v;
#else
    float s = 0.0f;
    for (int i = 0; i < VW; ++i) s += v[i];
    return s;
#endif
}

inline vf load(const float* p) { return *reinterpret_cast<const vf*>(p); }
inline void store(float* p, const vf& v) { *reinterpret_cast<vf*>(p) = v; }

void quantize_row(const float* x, int64_t k, int8_t* q, float* d, int32_t* s) {
    for (int64_t g = 0; g < k / kGroup; ++g, x += kGroup, q += kGroup) {
        float top = 0.0f;
#pragma omp simd reduction(max : top)
        for (int i = 0; i < kGroup; ++i) top = max_f(top, __builtin_fabsf(x[i]));
        const float inverse = top > 0.0f ? 127.0f / top : 0.0f;
        // A tiny group overflows the inverse; it is zero for all that follows.
        const float scale = inverse < 3.0e38f ? inverse : 0.0f;
        int32_t rounded[kGroup];
        int32_t total = 0;
#pragma omp simd reduction(+ : total)
        for (int i = 0; i < kGroup; ++i) {
            // Clamped because a damaged model may bring infinities and NaNs here.
            float value = (x[i] * scale + 12582912.0f) - 12582912.0f;
            value = value > -127.0f ? value : -127.0f;
            value = value < 127.0f ? value : 127.0f;
            rounded[i] = static_cast<int32_t>(value);
            total += rounded[i];
        }
        for (int i = 0; i < kGroup; ++i) q[i] = static_cast<int8_t>(rounded[i]);
        d[g] = top / 127.0f;
        s[g] = -128 * total;
    }
}

void dequantize_f32(const void* row, int64_t k, float* y) {
    __builtin_memcpy(y, row, static_cast<size_t>(k) * 4);
}

void dequantize_f16(const void* row, int64_t k, float* y) {
    const uint16_t* p = static_cast<const uint16_t*>(row);
    int64_t i = 0;
    for (; i + VW <= k; i += VW) store(y + i, load_f16(p + i));
    for (; i < k; ++i) y[i] = half_to_float(p[i]);
}

void dequantize_q8(const void* row, int64_t k, float* y) {
    const uint8_t* p = static_cast<const uint8_t*>(row);
    for (int64_t g = 0; g < k / kGroup; ++g, p += kQ8BlockBytes, y += kGroup) {
        const float d = half_to_float(read_u16(p));
        const int8_t* q = reinterpret_cast<const int8_t*>(p + 2);
        for (int i = 0; i < kGroup; ++i) y[i] = d * static_cast<float>(q[i]);
    }
}

void dequantize_q4(const void* row, int64_t k, float* y) {
    const uint8_t* p = static_cast<const uint8_t*>(row);
    for (int64_t g = 0; g < k / kGroup; ++g, p += kQ4BlockBytes, y += kGroup) {
        const float d = half_to_float(read_u16(p));
        for (int i = 0; i < 16; ++i) {
            y[i] = d * static_cast<float>((p[2 + i] & 15) - 8);
            y[i + 16] = d * static_cast<float>((p[2 + i] >> 4) - 8);
        }
    }
}

// ---- float matrices ----
//
// NR rows times NT tokens, each product with one vector of partial sums. One
// vector and the product of a whole prompt go through the same code in the
// same order, so a token gives the same bits alone and within a prompt.

inline vf load_weights(const float* p) { return load(p); }
inline vf load_weights(const uint16_t* p) { return load_f16(p); }
inline float weight(const float* p) { return *p; }
inline float weight(const uint16_t* p) { return half_to_float(*p); }

// kAhead: the cache that the next rows are fetched into, 0 for none.
template <int NR, int NT, int kAhead, typename W>
inline void float_dots(const W* w, int64_t rows, const float* x, int64_t k, float* y,
                       int64_t ldy) {
    const W* p[NR];
    for (int r = 0; r < NR; ++r) p[r] = w + (r < rows ? r : rows - 1) * k;
    vf c[NR][NT];
    for (int r = 0; r < NR; ++r)
        for (int t = 0; t < NT; ++t) c[r][t] = vf{};
    // The next rows in the order in which they lie in memory.
    const char* next = reinterpret_cast<const char*>(w + NR * k);
    int64_t i = 0;
    for (; i + VW <= k; i += VW) {
        if (kAhead > 0) {
            constexpr int64_t kStep = NR * VW * static_cast<int64_t>(sizeof(W));
            for (int64_t line = 0; line < kStep; line += 64)
                __builtin_prefetch(next + line, 0, kAhead == 1 ? 3 : 2);
            next += kStep;
        }
        vf xv[NT];
        for (int t = 0; t < NT; ++t) xv[t] = load(x + t * k + i);
        for (int r = 0; r < NR; ++r) {
            const vf wv = load_weights(p[r] + i);
            for (int t = 0; t < NT; ++t) c[r][t] += wv * xv[t];
        }
    }
    for (int r = 0; r < NR && r < rows; ++r) {
        for (int t = 0; t < NT; ++t) {
            float total = sum(c[r][t]);
            for (int64_t j = i; j < k; ++j) total += weight(p[r] + j) * x[t * k + j];
            y[t * ldy + r] = total;
        }
    }
}

// Four rows times up to four tokens.
template <int kAhead, typename W>
inline void float_block(const W* w, int64_t rows, const float* x, int64_t k, int64_t tokens,
                        float* y, int64_t ldy) {
    switch (tokens) {
        case 1: float_dots<4, 1, kAhead>(w, rows, x, k, y, ldy); break;
        case 2: float_dots<4, 2, kAhead>(w, rows, x, k, y, ldy); break;
        case 3: float_dots<4, 3, kAhead>(w, rows, x, k, y, ldy); break;
        default: float_dots<4, 4, kAhead>(w, rows, x, k, y, ldy);
    }
}

// Few tokens: every weight is read once from memory, for all of them.
template <typename W>
inline void float_columns(const void* weights, int64_t rows, const Activations& x, int64_t tokens,
                          float* y, int64_t ldy) {
    const bool far = 4 * x.k * static_cast<int64_t>(sizeof(W)) > 12 * 1024;
    for (int64_t r = 0; r < rows; r += 4) {
        const W* w = static_cast<const W*>(weights) + r * x.k;
        if (far)
            float_block<2>(w, rows - r, x.f, x.k, tokens, y + r, ldy);
        else
            float_block<1>(w, rows - r, x.f, x.k, tokens, y + r, ldy);
        for (int64_t t = 4; t < tokens; t += 4)
            float_block<0>(w, rows - r, x.f + t * x.k, x.k, tokens - t, y + t * ldy + r, ldy);
    }
}

// Many: rows that fit in the cache, again for every four tokens.
template <typename W>
inline void float_gemm(const void* weights, int64_t rows, const Activations& x, int64_t tokens,
                       float* y, int64_t ldy) {
    for (int64_t t = 0; t < tokens; t += 4)
        for (int64_t r = 0; r < rows; r += 4)
            float_block<0>(static_cast<const W*>(weights) + r * x.k, rows - r, x.f + t * x.k, x.k,
                           tokens - t, y + t * ldy + r, ldy);
}

void matvec_f32(const void* w, int64_t rows, const Activations& x, float* y) {
    float_columns<float>(w, rows, x, 1, y, 0);
}

void matvec_f16(const void* w, int64_t rows, const Activations& x, float* y) {
    float_columns<uint16_t>(w, rows, x, 1, y, 0);
}

void columns_f32(const void* w, int64_t rows, const Activations& x, int64_t tokens, float* y,
                 int64_t ldy) {
    float_columns<float>(w, rows, x, tokens, y, ldy);
}

void columns_f16(const void* w, int64_t rows, const Activations& x, int64_t tokens, float* y,
                 int64_t ldy) {
    float_columns<uint16_t>(w, rows, x, tokens, y, ldy);
}

void gemm_f32(const void* w, int64_t rows, const Activations& x, int64_t tokens, float* y,
              int64_t ldy, void*) {
    float_gemm<float>(w, rows, x, tokens, y, ldy);
}

void gemm_f16(const void* w, int64_t rows, const Activations& x, int64_t tokens, float* y,
              int64_t ldy, void*) {
    float_gemm<uint16_t>(w, rows, x, tokens, y, ldy);
}

// ---- elementwise ----

void layer_norm(const float* x, const float* weight, const float* bias, int64_t n, float eps,
                float* y) {
    float total = 0.0f;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < n; ++i) total += x[i];
    const float mean = total / static_cast<float>(n);
    float squares = 0.0f;
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < n; ++i) squares += (x[i] - mean) * (x[i] - mean);
    const float scale = 1.0f / __builtin_sqrtf(squares / static_cast<float>(n) + eps);
    for (int64_t i = 0; i < n; ++i) y[i] = (x[i] - mean) * scale * weight[i] + bias[i];
}

void lerp(const float* x, const float* prev, const float* mix, int64_t n, float* y) {
    for (int64_t i = 0; i < n; ++i) y[i] = x[i] + (prev[i] - x[i]) * mix[i];
}

void add(float* x, const float* y, int64_t n) {
    for (int64_t i = 0; i < n; ++i) x[i] += y[i];
}

void add_gated(float* x, const float* gate, const float* y, int64_t n) {
    for (int64_t i = 0; i < n; ++i) x[i] += sigmoid_f(gate[i]) * y[i];
}

void tanh_all(float* x, int64_t n) {
    for (int64_t i = 0; i < n; ++i) x[i] = 1.0f - 2.0f / (exp_f(2.0f * x[i]) + 1.0f);
}

void sigmoid_all(float* x, int64_t n) {
    for (int64_t i = 0; i < n; ++i) x[i] = sigmoid_f(x[i]);
}

void relu_square(float* x, int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
        const float v = x[i] > 0.0f ? x[i] : 0.0f;
        x[i] = v * v;
    }
}

// The numerically stable RWKV-4 recurrence (Peng et al. 2023, appendix D):
// aa and bb carry numerator and denominator scaled by exp(-pp).
void wkv4(const Wkv4& a, int64_t c0, int64_t c1) {
    // Locals: the vectorizer does not see that a struct's pointers stay put.
    const float* decay = a.decay;
    const float* first = a.first;
    float* aa_out = a.aa;
    float* bb_out = a.bb;
    float* pp_out = a.pp;
    for (int64_t t = 0; t < a.tokens; ++t) {
        const float* k = a.k + t * a.stride;
        const float* v = a.v + t * a.stride;
        const float* r = a.r + t * a.stride;
        float* out = a.out + t * a.stride;
        const float* aa = t == 0 ? a.aa_in : aa_out;
        const float* bb = t == 0 ? a.bb_in : bb_out;
        const float* pp = t == 0 ? a.pp_in : pp_out;
#pragma omp simd
        for (int64_t c = c0; c < c1; ++c) {
            const float now = first[c] + k[c];
            const float top = max_f(pp[c], now);
            const float past = exp_f(pp[c] - top);
            const float present = exp_f(now - top);
            const float wkv = (past * aa[c] + present * v[c]) / (past * bb[c] + present);
            out[c] = sigmoid_f(r[c]) * wkv;
            const float faded = decay[c] + pp[c];
            const float next = max_f(faded, k[c]);
            const float old = exp_f(faded - next);
            const float add = exp_f(k[c] - next);
            aa_out[c] = old * aa[c] + add * v[c];
            bb_out[c] = old * bb[c] + add;
            pp_out[c] = next;
        }
    }
}

// NV vectors of value lanes at once; the state is [key][value], so neither
// product needs a horizontal sum.
template <int NV>
inline void wkv7_lanes(const float* in, float* s, int64_t n, const float* decay, const float* key,
                       const float* r, const float* remove, const float* replace, const float* v,
                       float* y) {
    vf sa[NV], yv[NV], vv[NV];
    for (int i = 0; i < NV; ++i) {
        sa[i] = vf{};
        yv[i] = vf{};
        vv[i] = load(v + i * VW);
    }
    for (int64_t j = 0; j < n; ++j)
        for (int i = 0; i < NV; ++i) sa[i] += load(in + j * n + i * VW) * remove[j];
    for (int64_t j = 0; j < n; ++j) {
        float* row = s + j * n;
        for (int i = 0; i < NV; ++i) {
            const vf next =
                load(in + j * n + i * VW) * decay[j] + sa[i] * replace[j] + vv[i] * key[j];
            store(row + i * VW, next);
            yv[i] += next * r[j];
        }
    }
    for (int i = 0; i < NV; ++i) store(y + i * VW, yv[i]);
}

// RWKV-7 (Peng et al. 2025, section 4): S <- S diag(w) + (S a) b^T + v k^T,
// y = S r, then group norm, bonus and gate.
void wkv7(const Wkv7& a, int64_t head) {
    const int64_t n = a.head_size;
    const int64_t h = head * n;
    float* s = a.state_out + h * n;
    // Locals: the vectorizer does not see that a struct's pointers stay put.
    const float *w0 = a.w0 + h, *a0 = a.a0 + h, *k_k = a.k_k + h, *k_a = a.k_a + h;
    const float* r_k = a.r_k + h;
    alignas(64) float decay[kMaxHeadSize], key[kMaxHeadSize], remove[kMaxHeadSize];
    alignas(64) float replace[kMaxHeadSize], y[kMaxHeadSize];
    for (int64_t t = 0; t < a.tokens; ++t) {
        const int64_t o = t * a.stride + h;
        const float *r = a.r + o, *k = a.k + o, *w = a.w + o, *ia = a.a + o;
        float* v = a.v + o;
        float norm = 0.0f;
#pragma omp simd reduction(+ : norm)
        for (int64_t i = 0; i < n; ++i) {
            const float kk = k[i] * k_k[i];
            norm += kk * kk;
        }
        const float unit = 1.0f / max_f(__builtin_sqrtf(norm), 1e-12f);
#pragma omp simd
        for (int64_t i = 0; i < n; ++i) {
            decay[i] = exp_f(-0.606531f * sigmoid_f(w0[i] + w[i]));
            const float rate = sigmoid_f(a0[i] + ia[i]);
            const float kk = k[i] * k_k[i] * unit;
            remove[i] = -kk;
            replace[i] = kk * rate;
            key[i] = k[i] * (1.0f + (rate - 1.0f) * k_a[i]);
        }
        float bonus = 0.0f;
#pragma omp simd reduction(+ : bonus)
        for (int64_t i = 0; i < n; ++i) bonus += r[i] * key[i] * r_k[i];
        if (a.v_first != nullptr) {
            const float *first = a.v_first + o, *mix = a.v_mix + o, *v0 = a.v0 + h;
#pragma omp simd
            for (int64_t i = 0; i < n; ++i) v[i] += (first[i] - v[i]) * sigmoid_f(v0[i] + mix[i]);
        }
        const float* in = t == 0 ? a.state_in + h * n : s;
        int64_t i = 0;
        for (; i + 4 * VW <= n; i += 4 * VW)
            wkv7_lanes<4>(in + i, s + i, n, decay, key, r, remove, replace, v + i, y + i);
        for (; i + VW <= n; i += VW)
            wkv7_lanes<1>(in + i, s + i, n, decay, key, r, remove, replace, v + i, y + i);
        for (; i < n; ++i) {
            float sa = 0.0f, total = 0.0f;
            for (int64_t j = 0; j < n; ++j) sa += in[j * n + i] * remove[j];
            for (int64_t j = 0; j < n; ++j) {
                s[j * n + i] = in[j * n + i] * decay[j] + sa * replace[j] + v[i] * key[j];
                total += s[j * n + i] * r[j];
            }
            y[i] = total;
        }
        // The epsilon is head_size-independent in the reference: 64e-5.
        layer_norm(y, a.ln_w + h, a.ln_b + h, n, 64e-5f, y);
        const float* g = a.g + o;
        float* out = a.out + o;
#pragma omp simd
        for (int64_t i = 0; i < n; ++i) out[i] = (y[i] + bonus * v[i]) * g[i];
    }
}

}  // namespace
}  // namespace rwkv
