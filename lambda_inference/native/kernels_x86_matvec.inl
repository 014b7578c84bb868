// Quantized matrix times one vector, for AVX2 and AVX-512. A vector lane is a
// row, as in the matrix product, and the groups are added up in the same order:
// a token gives the same bits alone and within a prompt, so a state never
// depends on how its tokens were cut into calls.
//
// The including file defines dot_q8 and dot_q4 (32 products in 8 lanes, still
// shifted by shift_q8 and shift_q4).
namespace rwkv {
namespace {

// Lane i of the result is the sum of v[i]'s lanes.
inline __m256i sums_of(const __m256i* v) {
    const __m256i a = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]),
                                        _mm256_hadd_epi32(v[2], v[3]));
    const __m256i b = _mm256_hadd_epi32(_mm256_hadd_epi32(v[4], v[5]),
                                        _mm256_hadd_epi32(v[6], v[7]));
    return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20),
                            _mm256_permute2x128_si256(a, b, 0x31));
}

template <int64_t kBytes, typename Dot, typename Shift>
inline void matvec_lanes(const void* w, int64_t rows, const Activations& x, float* y, Dot dot,
                         Shift shift) {
    const uint8_t* base = static_cast<const uint8_t*>(w);
    const int64_t groups = x.k / kGroup;
    const int64_t stride = groups * kBytes;
    for (int64_t r = 0; r < rows; r += 8) {
        const uint8_t* p[8];
        for (int i = 0; i < 8; ++i) p[i] = base + (r + i < rows ? r + i : rows - 1) * stride;
        // The eight rows after these, where there are any.
        const int64_t ahead = r + 16 <= rows ? 8 * stride : 0;
        __m256 acc = _mm256_setzero_ps();
        for (int64_t g = 0; g < groups; ++g) {
            const int64_t at = g * kBytes;
            const __m256i q =
                _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x.q + g * kGroup));
            __m256i v[8];
            __m128i d = _mm_setzero_si128();
#pragma GCC unroll 8
            for (int i = 0; i < 8; ++i) {
                _mm_prefetch(reinterpret_cast<const char*>(p[i] + at + ahead), _MM_HINT_T0);
                v[i] = dot(p[i] + at + 2, q);
            }
            d = _mm_insert_epi16(d, read_u16(p[0] + at), 0);
            d = _mm_insert_epi16(d, read_u16(p[1] + at), 1);
            d = _mm_insert_epi16(d, read_u16(p[2] + at), 2);
            d = _mm_insert_epi16(d, read_u16(p[3] + at), 3);
            d = _mm_insert_epi16(d, read_u16(p[4] + at), 4);
            d = _mm_insert_epi16(d, read_u16(p[5] + at), 5);
            d = _mm_insert_epi16(d, read_u16(p[6] + at), 6);
            d = _mm_insert_epi16(d, read_u16(p[7] + at), 7);
            const __m256i total = _mm256_add_epi32(sums_of(v), _mm256_set1_epi32(shift(x.s[g])));
            acc = _mm256_fmadd_ps(
                _mm256_cvtepi32_ps(total),
                _mm256_mul_ps(_mm256_cvtph_ps(d), _mm256_broadcast_ss(x.d + g)), acc);
        }
        if (r + 8 <= rows) {
            _mm256_storeu_ps(y + r, acc);
        } else {
            alignas(32) float last[8];
            _mm256_store_ps(last, acc);
            for (int64_t i = r; i < rows; ++i) y[i] = last[i - r];
        }
    }
}

void matvec_q8(const void* w, int64_t rows, const Activations& x, float* y) {
    matvec_lanes<kQ8BlockBytes>(w, rows, x, y, dot_q8, shift_q8);
}

void matvec_q4(const void* w, int64_t rows, const Activations& x, float* y) {
    matvec_lanes<kQ4BlockBytes>(w, rows, x, y, dot_q4, shift_q4);
}

}  // namespace
}  // namespace rwkv
