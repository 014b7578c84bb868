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

// Sums of nibbles' products stay in 16 bits for a whole group: 16 of them are
// at most 16 * 15 * 127.
inline __m256i add_q4(__m256i a, __m256i b) { return _mm256_add_epi16(a, b); }

inline __m256i total_q4(__m256i sums) {
    return _mm256_madd_epi16(sums, _mm256_set1_epi16(1));
}

inline __m256i dot_q4(const uint8_t* p0, const uint8_t* p1, __m256i x_low, __m256i x_high) {
    const __m256i both = load_pair(p0, p1);
    const __m256i mask = _mm256_set1_epi8(15);
    const __m256i low = _mm256_and_si256(both, mask);
    const __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), mask);
    return add_q4(_mm256_maddubs_epi16(low, x_low), _mm256_maddubs_epi16(high, x_high));
}

// s is -128 * sum(x); the nibbles are 8 too high.
inline int32_t shift_q4(int32_t s) { return s >> 4; }

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

}  // namespace
}  // namespace rwkv
#include "kernels_avx2_gemm.inl"
#include "kernels_x86_matvec.inl"

namespace rwkv {

const Kernels kernels_avx2 = {
    "avx2",
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
