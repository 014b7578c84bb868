// NEON, with or without the dot-product instructions (macro DOTPROD), as the
// table NEON_TABLE named NEON_NAME.
#include "kernels.h"

#if defined(__aarch64__)
#include <arm_neon.h>

#define VW 4
namespace rwkv {
namespace {
typedef float f16_vector __attribute__((vector_size(16), aligned(4), may_alias));
inline f16_vector load_f16(const uint16_t* p) {
    return f16_vector(vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))));
}
}  // namespace
}  // namespace rwkv
#include "kernels_common.inl"

namespace rwkv {
namespace {

// Sums of four adjacent products a lane, in some order of the lanes' content:
// callers only add the lanes up.
inline int32x4_t dot16(int32x4_t acc, int8x16_t w, int8x16_t x) {
#ifdef DOTPROD
    return vdotq_s32(acc, w, x);
#else
    acc = vpadalq_s16(acc, vmull_s8(vget_low_s8(w), vget_low_s8(x)));
    return vpadalq_s16(acc, vmull_s8(vget_high_s8(w), vget_high_s8(x)));
#endif
}

inline int32x4_t dot_q8(const uint8_t* p, int8x16_t x0, int8x16_t x1) {
    const int8_t* w = reinterpret_cast<const int8_t*>(p);
    return dot16(dot16(vdupq_n_s32(0), vld1q_s8(w), x0), vld1q_s8(w + 16), x1);
}

inline int32x4_t dot_q4(const uint8_t* p, int8x16_t x0, int8x16_t x1) {
    const uint8x16_t both = vld1q_u8(p);
    const int8x16_t eight = vdupq_n_s8(8);
    const int8x16_t low =
        vsubq_s8(vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(15))), eight);
    const int8x16_t high = vsubq_s8(vreinterpretq_s8_u8(vshrq_n_u8(both, 4)), eight);
    return dot16(dot16(vdupq_n_s32(0), low, x0), high, x1);
}

constexpr int64_t kColumns = 4;  // tokens that share a read of four rows in registers

// A lane is a row and the groups are added in order, as in the matrix product:
// a token gives the same bits alone, beside others and within a prompt.
template <int64_t kBytes, int NT, bool kAhead, typename Dot>
inline void four_rows(const uint8_t* w, int64_t rows, const Activations& x, int64_t t0, float* y,
                      int64_t ldy, Dot dot) {
    const int64_t groups = x.k / kGroup;
    const int64_t stride = groups * kBytes;
    const uint8_t* p[4];
    for (int i = 0; i < 4; ++i) p[i] = w + (i < rows ? i : rows - 1) * stride;
    // The next rows in the order in which they lie in memory.
    const uint8_t* next = w + 4 * stride;
    float32x4_t acc[NT];
    for (int t = 0; t < NT; ++t) acc[t] = vdupq_n_f32(0);
    for (int64_t g = 0; g < groups; ++g) {
        const int64_t at = g * kBytes;
        if (kAhead) {
            for (int64_t line = 0; line < 4 * kBytes; line += 64) __builtin_prefetch(next + line);
            next += 4 * kBytes;
        }
        uint16_t d[4];
        for (int i = 0; i < 4; ++i) d[i] = read_u16(p[i] + at);
        const float32x4_t scales = float32x4_t(load_f16(d));
        for (int t = 0; t < NT; ++t) {
            const int8_t* q = x.q + (t0 + t) * x.k + g * kGroup;
            const int8x16_t x0 = vld1q_s8(q);
            const int8x16_t x1 = vld1q_s8(q + 16);
            int32x4_t v[4];
            for (int i = 0; i < 4; ++i) v[i] = dot(p[i] + at + 2, x0, x1);
            const int32x4_t total = vpaddq_s32(vpaddq_s32(v[0], v[1]), vpaddq_s32(v[2], v[3]));
            const float32x4_t scale = vmulq_n_f32(scales, x.d[(t0 + t) * groups + g]);
            acc[t] = vfmaq_f32(acc[t], vcvtq_f32_s32(total), scale);
        }
    }
    for (int t = 0; t < NT; ++t) {
        float lanes[4];
        vst1q_f32(lanes, acc[t]);
        for (int64_t i = 0; i < 4 && i < rows; ++i) y[t * ldy + i] = lanes[i];
    }
}

template <int64_t kBytes, bool kAhead, typename Dot>
inline void four_rows_of(const uint8_t* w, int64_t rows, const Activations& x, int64_t t0,
                         int64_t tokens, float* y, int64_t ldy, Dot dot) {
    switch (tokens) {
        case 1: four_rows<kBytes, 1, kAhead>(w, rows, x, t0, y, ldy, dot); break;
        case 2: four_rows<kBytes, 2, kAhead>(w, rows, x, t0, y, ldy, dot); break;
        case 3: four_rows<kBytes, 3, kAhead>(w, rows, x, t0, y, ldy, dot); break;
        default: four_rows<kBytes, 4, kAhead>(w, rows, x, t0, y, ldy, dot);
    }
}

template <int64_t kBytes, typename Dot>
inline void columns_lanes(const void* w, int64_t rows, const Activations& x, int64_t tokens,
                          float* y, int64_t ldy, Dot dot) {
    const int64_t stride = x.k / kGroup * kBytes;
    for (int64_t r = 0; r < rows; r += 4) {
        const uint8_t* four = static_cast<const uint8_t*>(w) + r * stride;
        four_rows_of<kBytes, true>(four, rows - r, x, 0, tokens, y + r, ldy, dot);
        for (int64_t t = kColumns; t < tokens; t += kColumns)
            four_rows_of<kBytes, false>(four, rows - r, x, t, tokens - t, y + t * ldy + r, ldy,
                                        dot);
    }
}

void matvec_q8(const void* w, int64_t rows, const Activations& x, float* y) {
    columns_lanes<kQ8BlockBytes>(w, rows, x, 1, y, 0, dot_q8);
}

void matvec_q4(const void* w, int64_t rows, const Activations& x, float* y) {
    columns_lanes<kQ4BlockBytes>(w, rows, x, 1, y, 0, dot_q4);
}

void columns_q8(const void* w, int64_t rows, const Activations& x, int64_t tokens, float* y,
                int64_t ldy) {
    columns_lanes<kQ8BlockBytes>(w, rows, x, tokens, y, ldy, dot_q8);
}

void columns_q4(const void* w, int64_t rows, const Activations& x, int64_t tokens, float* y,
                int64_t ldy) {
    columns_lanes<kQ4BlockBytes>(w, rows, x, tokens, y, ldy, dot_q4);
}

// [8 quads][16 rows][4].
inline void pack_group(const int8_t (*values)[kGroup], int8_t* out) {
    for (int r = 0; r < kTileRows; ++r)
        for (int i = 0; i < 8; ++i)
            __builtin_memcpy(out + (i * kTileRows + r) * 4, values[r] + i * 4, 4);
}

constexpr int64_t kMicroTokens = 4;

template <int NT>
inline void micro(const int8_t* pack, const float* scales, int64_t groups, const Activations& x,
                  int64_t t0, int64_t g0, float* acc) {
    const int64_t all = x.k / kGroup;
    for (int64_t g = 0; g < groups; ++g) {
        const int8_t* w = pack + g * 512;
        const int8_t* q = x.q + t0 * x.k + (g0 + g) * kGroup;
        int32x4_t c[NT][4];
        for (int t = 0; t < NT; ++t)
            for (int v = 0; v < 4; ++v) c[t][v] = vdupq_n_s32(0);
        for (int i = 0; i < 8; ++i) {
            int8x16_t wi[4];
            for (int v = 0; v < 4; ++v) wi[v] = vld1q_s8(w + i * 64 + v * 16);
            for (int t = 0; t < NT; ++t) {
                int32_t four;
                __builtin_memcpy(&four, q + t * x.k + i * 4, 4);
                const int8x16_t xs = vreinterpretq_s8_s32(vdupq_n_s32(four));
                for (int v = 0; v < 4; ++v) {
#ifdef DOTPROD
                    c[t][v] = vdotq_s32(c[t][v], wi[v], xs);
#else
                    // Two 32-bit sums a row, rows 0-1 and 2-3, folded together.
                    const int32x4_t low =
                        vpaddlq_s16(vmull_s8(vget_low_s8(wi[v]), vget_low_s8(xs)));
                    const int32x4_t high =
                        vpaddlq_s16(vmull_s8(vget_high_s8(wi[v]), vget_high_s8(xs)));
                    c[t][v] = vaddq_s32(c[t][v], vpaddq_s32(low, high));
#endif
                }
            }
        }
        for (int t = 0; t < NT; ++t) {
            const float d = x.d[(t0 + t) * all + g0 + g];
            for (int v = 0; v < 4; ++v) {
                float* a = acc + t * kTileRows + v * 4;
                const float32x4_t scale = vmulq_n_f32(vld1q_f32(scales + g * kTileRows + v * 4), d);
                vst1q_f32(a, vfmaq_f32(vld1q_f32(a), vcvtq_f32_s32(c[t][v]), scale));
            }
        }
    }
}

}  // namespace
}  // namespace rwkv
#include "kernels_quant_gemm.inl"

namespace rwkv {

const Kernels NEON_TABLE = {
    NEON_NAME,
    quantize_row,
    {dequantize_f32, dequantize_f16, dequantize_q8, dequantize_q4},
    {matvec_f32, matvec_f16, matvec_q8, matvec_q4},
    {columns_f32, columns_f16, columns_q8, columns_q4},
    {16, 16, 8, 8},
    {gemm_f32, gemm_f16, gemm_q8, gemm_q4},
    layer_norm, lerp, add, add_gated, tanh_all, sigmoid_all, relu_square, wkv4, wkv7,
};

}  // namespace rwkv
#endif
