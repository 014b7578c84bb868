// Quantized matrix times one vector, for AVX2 and AVX-512. A vector lane is a
// row, as in the matrix product, and the groups are added up in the same order:
// a token gives the same bits alone and within a prompt, so a state never
// depends on how its tokens were cut into calls.
//
// The including file defines dot_q8 (32 products of a row in 8 lanes), dot_q4
// (32 products each of two rows, 4 lanes a row), shift_q8 and shift_q4.
namespace rwkv {
namespace {

struct LanesQ8 {
    static constexpr int64_t kBytes = kQ8BlockBytes;
    static inline int32_t shift(int32_t s) { return shift_q8(s); }

    // Lane i is the sum over row i.
    static inline __m256i sums(const uint8_t* const* p, int64_t at, const int8_t* q) {
        const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(q));
        __m256i v[8];
#pragma GCC unroll 8
        for (int i = 0; i < 8; ++i) v[i] = dot_q8(p[i] + at, x);
        const __m256i a = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]),
                                            _mm256_hadd_epi32(v[2], v[3]));
        const __m256i b = _mm256_hadd_epi32(_mm256_hadd_epi32(v[4], v[5]),
                                            _mm256_hadd_epi32(v[6], v[7]));
        return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20),
                                _mm256_permute2x128_si256(a, b, 0x31));
    }
};

struct LanesQ4 {
    static constexpr int64_t kBytes = kQ4BlockBytes;
    static inline int32_t shift(int32_t s) { return shift_q4(s); }

    static inline __m256i sums(const uint8_t* const* p, int64_t at, const int8_t* q) {
        const __m256i low = _mm256_broadcastsi128_si256(
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(q)));
        const __m256i high = _mm256_broadcastsi128_si256(
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(q + 16)));
        __m256i v[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) v[i] = dot_q4(p[i] + at, p[i + 4] + at, low, high);
        return _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
    }
};

template <typename Lanes, bool kFar>
inline void matvec_rows(const void* w, int64_t rows, const Activations& x, float* y) {
    constexpr int64_t kBytes = Lanes::kBytes;
    const uint8_t* base = static_cast<const uint8_t*>(w);
    const int64_t groups = x.k / kGroup;
    const int64_t stride = groups * kBytes;
    for (int64_t r = 0; r < rows; r += 8) {
        const uint8_t* p[8];
        for (int i = 0; i < 8; ++i) p[i] = base + (r + i < rows ? r + i : rows - 1) * stride;
        // The next eight rows are fetched in the order in which they lie in
        // memory, which the hardware's own prefetcher takes up; the order in
        // which they are read defeats it. Prefetching beyond the end is harmless.
        const char* next = reinterpret_cast<const char*>(p[0] + 8 * stride);
        __m256 acc = _mm256_setzero_ps();
        for (int64_t g = 0; g < groups; ++g) {
            const int64_t at = g * kBytes;
            for (int64_t line = 0; line < 8 * kBytes; line += 64)
                _mm_prefetch(next + line, kFar ? _MM_HINT_T1 : _MM_HINT_T0);
            next += 8 * kBytes;
            const __m256i total = _mm256_add_epi32(Lanes::sums(p, at + 2, x.q + g * kGroup),
                                                   _mm256_set1_epi32(Lanes::shift(x.s[g])));
            __m128i d = _mm_setzero_si128();
            d = _mm_insert_epi16(d, read_u16(p[0] + at), 0);
            d = _mm_insert_epi16(d, read_u16(p[1] + at), 1);
            d = _mm_insert_epi16(d, read_u16(p[2] + at), 2);
            d = _mm_insert_epi16(d, read_u16(p[3] + at), 3);
            d = _mm_insert_epi16(d, read_u16(p[4] + at), 4);
            d = _mm_insert_epi16(d, read_u16(p[5] + at), 5);
            d = _mm_insert_epi16(d, read_u16(p[6] + at), 6);
            d = _mm_insert_epi16(d, read_u16(p[7] + at), 7);
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

// Rows that fill much of the first-level cache are fetched into the second.
constexpr int64_t kNearBytes = 12 * 1024;

template <typename Lanes>
inline void matvec_lanes(const void* w, int64_t rows, const Activations& x, float* y) {
    if (x.k / kGroup * Lanes::kBytes * 8 > kNearBytes)
        matvec_rows<Lanes, true>(w, rows, x, y);
    else
        matvec_rows<Lanes, false>(w, rows, x, y);
}

void matvec_q8(const void* w, int64_t rows, const Activations& x, float* y) {
    matvec_lanes<LanesQ8>(w, rows, x, y);
}

void matvec_q4(const void* w, int64_t rows, const Activations& x, float* y) {
    matvec_lanes<LanesQ4>(w, rows, x, y);
}

}  // namespace
}  // namespace rwkv
