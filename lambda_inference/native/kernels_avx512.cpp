// AVX-512 F/BW/VL/DQ with VNNI.
#include "kernels.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>

#define VW 16
namespace rwkv {
namespace {
typedef float f16_vector __attribute__((vector_size(64), aligned(4), may_alias));
inline f16_vector load_f16(const uint16_t* p) {
    return f16_vector(_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
}
}  // namespace
}  // namespace rwkv
#include "kernels_common.inl"

namespace rwkv {
namespace {

// dpbusd multiplies unsigned by signed: the weights are shifted up by 128 and
// s = -128 * sum(x) takes that out again.
inline __m256i dot_q8(const uint8_t* p, __m256i x) {
    const __m256i w = _mm256_xor_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
                                       _mm256_set1_epi8(static_cast<char>(0x80)));
    return _mm256_dpbusd_epi32(_mm256_setzero_si256(), w, x);
}

inline int32_t shift_q8(int32_t s) { return s; }

// 16 bytes each of two rows, a row a half.
inline __m256i load_pair(const uint8_t* p0, const uint8_t* p1) {
    return _mm256_inserti128_si256(
        _mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p0))),
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(p1)), 1);
}

inline __m256i add_q4(__m256i a, __m256i b) { return _mm256_add_epi32(a, b); }

inline __m256i total_q4(__m256i sums) { return sums; }

inline __m256i dot_q4(const uint8_t* p0, const uint8_t* p1, __m256i x_low, __m256i x_high) {
    const __m256i both = load_pair(p0, p1);
    const __m256i mask = _mm256_set1_epi8(15);
    const __m256i low = _mm256_and_si256(both, mask);
    const __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), mask);
    return _mm256_dpbusd_epi32(_mm256_dpbusd_epi32(_mm256_setzero_si256(), low, x_low), high,
                               x_high);
}

// The nibbles are 8 too high.
inline int32_t shift_q4(int32_t s) { return s >> 4; }

// Transposes 16 x 8 dwords: a register holds 4 columns of 16 rows, shifted to
// unsigned. Rows i and i + 8 share a register, so every step stays in halves
// until the last, which gathers the four 128-bit lanes of a column.
inline void pack_group(const int8_t (*values)[kGroup], int8_t* out) {
    const __m512i high = _mm512_set1_epi8(static_cast<char>(0x80));
    __m512i r[8], t[8], u[8];
    for (int i = 0; i < 8; ++i) {
        const __m256i lower = _mm256_load_si256(reinterpret_cast<const __m256i*>(values[i]));
        const __m256i upper = _mm256_load_si256(reinterpret_cast<const __m256i*>(values[i + 8]));
        r[i] = _mm512_xor_si512(_mm512_inserti64x4(_mm512_castsi256_si512(lower), upper, 1), high);
    }
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        u[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        u[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        u[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        u[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    const __m512i even = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13);
    const __m512i odd = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
    for (int i = 0; i < 4; ++i) {
        _mm512_storeu_si512(out + i * 64, _mm512_permutex2var_epi64(u[i], even, u[i + 4]));
        _mm512_storeu_si512(out + (i + 4) * 64, _mm512_permutex2var_epi64(u[i], odd, u[i + 4]));
    }
}

constexpr int64_t kMicroTokens = 8;

template <int NT>
inline void micro(const int8_t* pack, const float* scales, int64_t groups, const Activations& x,
                  int64_t t0, int64_t g0, float* acc) {
    const int64_t all = x.k / kGroup;
    __m512 f[NT];
    for (int t = 0; t < NT; ++t) f[t] = _mm512_loadu_ps(acc + t * kTileRows);
    for (int64_t g = 0; g < groups; ++g) {
        const int8_t* w = pack + g * 512;
        const int8_t* q = x.q + t0 * x.k + (g0 + g) * kGroup;
        const int64_t at = t0 * all + g0 + g;
        __m512i c[NT];
        for (int t = 0; t < NT; ++t) c[t] = _mm512_set1_epi32(x.s[at + t * all]);
        for (int i = 0; i < 8; ++i) {
            const __m512i wi = _mm512_loadu_si512(w + i * 64);
            for (int t = 0; t < NT; ++t) {
                int32_t v;
                __builtin_memcpy(&v, q + t * x.k + i * 4, 4);
                c[t] = _mm512_dpbusd_epi32(c[t], wi, _mm512_set1_epi32(v));
            }
        }
        const __m512 scale = _mm512_loadu_ps(scales + g * kTileRows);
        for (int t = 0; t < NT; ++t)
            f[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(c[t]),
                                   _mm512_mul_ps(scale, _mm512_set1_ps(x.d[at + t * all])), f[t]);
    }
    for (int t = 0; t < NT; ++t) _mm512_storeu_ps(acc + t * kTileRows, f[t]);
}

}  // namespace
}  // namespace rwkv
#include "kernels_quant_gemm.inl"
#include "kernels_x86_matvec.inl"

namespace rwkv {

const Kernels kernels_avx512 = {
    "avx512",
    quantize_row,
    {dequantize_f32, dequantize_f16, dequantize_q8, dequantize_q4},
    {matvec_f32, matvec_f16, matvec_q8, matvec_q4},
    {columns_f32, columns_f16, columns_q8, columns_q4},
    {16, 16, 4, 8},
    {gemm_f32, gemm_f16, gemm_q8, gemm_q4},
    layer_norm, lerp, add, add_gated, tanh_all, sigmoid_all, relu_square, wkv4, wkv7,
};

}  // namespace rwkv
#endif
