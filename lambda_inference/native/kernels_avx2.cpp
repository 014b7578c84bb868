// AVX2 + FMA + F16C.
#include "kernels.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>

#define VW 8
namespace rwkv {
namespace {
typedef float f16_vector __attribute__((vector_size(32), aligned(4), may_alias));
inline f16_vector load_f16(const uint16_t* p) {
    return f16_vector(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
}  // namespace
}  // namespace rwkv
#include "kernels_common.inl"

namespace rwkv {
namespace {

// |w| * (x with w's sign): unsigned x signed, as maddubs wants it, and never
// above 2 * 128 * 127, so its 16-bit sums cannot saturate.
inline __m256i dot_q8(const uint8_t* p, __m256i x) {
    const __m256i w = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

inline int32_t shift_q8(int32_t) { return 0; }

// 16 bytes each of two rows, a row a half.
inline __m256i load_pair(const uint8_t* p0, const uint8_t* p1) {
    return _mm256_inserti128_si256(
        _mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p0))),
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(p1)), 1);
}

inline __m256i dot_q4(const uint8_t* p0, const uint8_t* p1, __m256i x_low, __m256i x_high) {
    const __m256i both = load_pair(p0, p1);
    const __m256i mask = _mm256_set1_epi8(15);
    const __m256i low = _mm256_and_si256(both, mask);
    const __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), mask);
    const __m256i pairs =
        _mm256_add_epi16(_mm256_maddubs_epi16(low, x_low), _mm256_maddubs_epi16(high, x_high));
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

// s is -128 * sum(x); the nibbles are 8 too high.
inline int32_t shift_q4(int32_t s) { return s / 16; }

// Transposes 8 x 8 dwords.
inline void transpose8(__m256i* r) {
    __m256i t[8], u[8];
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        u[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
        u[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
        u[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
        u[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; ++i) {
        r[i] = _mm256_permute2x128_si256(u[i], u[i + 4], 0x20);
        r[i + 4] = _mm256_permute2x128_si256(u[i], u[i + 4], 0x31);
    }
}

// [half][8 quads][8 rows][4]: a register holds 4 columns of 8 rows.
inline void pack_group(const int8_t (*values)[kGroup], int8_t* out) {
    for (int half = 0; half < 2; ++half) {
        __m256i r[8];
        for (int i = 0; i < 8; ++i)
            r[i] = _mm256_load_si256(reinterpret_cast<const __m256i*>(values[half * 8 + i]));
        transpose8(r);
        for (int i = 0; i < 8; ++i)
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + (half * 8 + i) * 32), r[i]);
    }
}

constexpr int64_t kMicroTokens = 8;

inline __m256i quad(const int8_t* q) {
    int32_t v;
    __builtin_memcpy(&v, q, 4);
    return _mm256_set1_epi32(v);
}

template <int NT>
inline void micro(const int8_t* pack, const float* scales, int64_t groups, const Activations& x,
                  int64_t t0, int64_t g0, float* acc) {
    const int64_t all = x.k / kGroup;
    const __m256i ones = _mm256_set1_epi16(1);
    for (int half = 0; half < 2; ++half) {
        for (int64_t g = 0; g < groups; ++g) {
            const int8_t* w = pack + (g * 2 + half) * 256;
            const int8_t* q = x.q + t0 * x.k + (g0 + g) * kGroup;
            __m256i c[NT];
            for (int t = 0; t < NT; ++t) c[t] = _mm256_setzero_si256();
            for (int i = 0; i < 8; ++i) {
                const __m256i wi =
                    _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w + i * 32));
                const __m256i magnitude = _mm256_abs_epi8(wi);
                for (int t = 0; t < NT; ++t) {
                    const __m256i xs = _mm256_sign_epi8(quad(q + t * x.k + i * 4), wi);
                    c[t] = _mm256_add_epi32(
                        c[t], _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, xs), ones));
                }
            }
            const __m256 scale = _mm256_loadu_ps(scales + g * kTileRows + half * 8);
            for (int t = 0; t < NT; ++t) {
                float* a = acc + t * kTileRows + half * 8;
                const __m256 d = _mm256_broadcast_ss(x.d + (t0 + t) * all + g0 + g);
                _mm256_storeu_ps(a, _mm256_fmadd_ps(_mm256_cvtepi32_ps(c[t]),
                                                    _mm256_mul_ps(scale, d), _mm256_loadu_ps(a)));
            }
        }
    }
}

}  // namespace
}  // namespace rwkv
#include "kernels_quant_gemm.inl"
#include "kernels_x86_matvec.inl"

namespace rwkv {

const Kernels kernels_avx2 = {
    "avx2",
    quantize_row,
    {dequantize_f32, dequantize_f16, dequantize_q8, dequantize_q4},
    {matvec_f32, matvec_f16, matvec_q8, matvec_q4},
    {gemm_f32, gemm_f16, gemm_q8, gemm_q4},
    layer_norm, lerp, add, add_gated, tanh_all, sigmoid_all, relu_square, wkv4, wkv7,
};

}  // namespace rwkv
#endif
