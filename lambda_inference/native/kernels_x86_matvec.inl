// Quantized matrix times one vector, for AVX2 and AVX-512. A vector lane is a
// row, as in the matrix product, and the groups are added up in the same order:
// a token gives the same bits alone and within a prompt, so a state never
// depends on how its tokens were cut into calls.
//
// The including file defines dot_q8 (32 products of a row in 8 lanes) with
// shift_q8, and dot_q4 (32 products each of two rows, half the vector a row)
// with add_q4, total_q4 (lanes of dot_q4 added, and widened) and shift_q4.
namespace rwkv {
namespace {

// The halves of a and of b crossed so that adding both gives, in each 128 bits,
// half as many sums of a and then as many of b.
inline __m256i keep_halves(__m256i a, __m256i b) { return _mm256_blend_epi32(a, b, 0xcc); }

inline __m256i swap_halves(__m256i a, __m256i b) {
    return _mm256_castpd_si256(
        _mm256_shuffle_pd(_mm256_castsi256_pd(a), _mm256_castsi256_pd(b), 5));
}

// Dwords 0 and 2, or 1 and 3, of a and then of b, in each 128 bits.
template <int kWhich>
inline __m256i every_other(__m256i a, __m256i b) {
    return _mm256_castps_si256(
        _mm256_shuffle_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), kWhich));
}

struct LanesQ8 {
    static constexpr int64_t kBytes = kQ8BlockBytes;
    static inline int32_t shift(int32_t s) { return shift_q8(s); }

    static inline __m256i add(__m256i a, __m256i b) { return _mm256_add_epi32(a, b); }

    static inline __m256i four(const __m256i* v) {
        const __m256i a = add(keep_halves(v[0], v[1]), swap_halves(v[0], v[1]));
        const __m256i b = add(keep_halves(v[2], v[3]), swap_halves(v[2], v[3]));
        return add(every_other<0x88>(a, b), every_other<0xdd>(a, b));
    }

    // Lane i is the sum over row i.
    static inline __m256i sums(const uint8_t* const* p, int64_t at, const int8_t* q) {
        const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(q));
        __m256i v[8];
#pragma GCC unroll 8
        for (int i = 0; i < 8; ++i) v[i] = dot_q8(p[i] + at, x);
        const __m256i a = four(v), b = four(v + 4);
        return add(_mm256_blend_epi32(a, b, 0xf0), _mm256_permute2x128_si256(a, b, 0x21));
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
        const __m256i a = add_q4(keep_halves(v[0], v[1]), swap_halves(v[0], v[1]));
        const __m256i b = add_q4(keep_halves(v[2], v[3]), swap_halves(v[2], v[3]));
        return total_q4(add_q4(every_other<0x88>(a, b), every_other<0xdd>(a, b)));
    }
};

// Scales of eight blocks, one at each p + at.
inline __m256 eight_scales(const uint8_t* const* p, int64_t at) {
    __m128i d = _mm_setzero_si128();
    d = _mm_insert_epi16(d, read_u16(p[0] + at), 0);
    d = _mm_insert_epi16(d, read_u16(p[1] + at), 1);
    d = _mm_insert_epi16(d, read_u16(p[2] + at), 2);
    d = _mm_insert_epi16(d, read_u16(p[3] + at), 3);
    d = _mm_insert_epi16(d, read_u16(p[4] + at), 4);
    d = _mm_insert_epi16(d, read_u16(p[5] + at), 5);
    d = _mm_insert_epi16(d, read_u16(p[6] + at), 6);
    d = _mm_insert_epi16(d, read_u16(p[7] + at), 7);
    return _mm256_cvtph_ps(d);
}

// Eight rows, one starting at each p.
template <typename Lanes>
inline __m256 eight_rows(const uint8_t* const* p, const Activations& x) {
    __m256 acc = _mm256_setzero_ps();
    for (int64_t g = 0; g < x.k / kGroup; ++g) {
        const int64_t at = g * Lanes::kBytes;
        const __m256i total = _mm256_add_epi32(Lanes::sums(p, at + 2, x.q + g * kGroup),
                                               _mm256_set1_epi32(Lanes::shift(x.s[g])));
        acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(total),
                              _mm256_mul_ps(eight_scales(p, at), _mm256_broadcast_ss(x.d + g)),
                              acc);
    }
    return acc;
}

// Each lane reads a share of consecutive rows of its own: eight streams, long
// and far apart, which the hardware's prefetcher follows and which ask for more
// of memory at once than one stream does. (On Zen 3 they reach 20 to 24 GB/s,
// eight neighbouring rows with software prefetch 11 to 14, one stream 16 to 19.)
template <typename Lanes>
inline void matvec_lanes(const void* w, int64_t rows, const Activations& x, float* y) {
    const uint8_t* base = static_cast<const uint8_t*>(w);
    const int64_t stride = x.k / kGroup * Lanes::kBytes;
    const int64_t share = rows / 8;
    alignas(32) float lanes[8];
    const uint8_t* p[8];
    for (int i = 0; i < 8; ++i) p[i] = base + i * share * stride;
    for (int64_t r = 0; r < share; ++r) {
        _mm256_store_ps(lanes, eight_rows<Lanes>(p, x));
        for (int i = 0; i < 8; ++i) {
            y[i * share + r] = lanes[i];
            p[i] += stride;
        }
    }
    const int64_t done = share * 8;
    if (done == rows) return;
    for (int64_t i = 0; i < 8; ++i)
        p[i] = base + (done + i < rows ? done + i : rows - 1) * stride;
    _mm256_store_ps(lanes, eight_rows<Lanes>(p, x));
    for (int64_t i = done; i < rows; ++i) y[i] = lanes[i - done];
}

constexpr int64_t kColumns = 4;  // tokens that share a read of eight rows

// The same rows times NT tokens from x on. Each token has sums of its own, added
// up as eight_rows does, so what it gets does not depend on who is beside it.
// Lane i goes to y[i * step].
template <typename Lanes, int NT>
inline void eight_rows_columns(const uint8_t* const* p, const Activations& x, float* y,
                               int64_t ldy, int64_t step, int64_t rows) {
    const int64_t groups = x.k / kGroup;
    __m256 acc[NT];
#pragma GCC unroll 4
    for (int t = 0; t < NT; ++t) acc[t] = _mm256_setzero_ps();
    for (int64_t g = 0; g < groups; ++g) {
        const int64_t at = g * Lanes::kBytes;
        const __m256 scales = eight_scales(p, at);
#pragma GCC unroll 4
        for (int t = 0; t < NT; ++t) {
            const __m256i total =
                _mm256_add_epi32(Lanes::sums(p, at + 2, x.q + t * x.k + g * kGroup),
                                 _mm256_set1_epi32(Lanes::shift(x.s[t * groups + g])));
            acc[t] = _mm256_fmadd_ps(
                _mm256_cvtepi32_ps(total),
                _mm256_mul_ps(scales, _mm256_broadcast_ss(x.d + t * groups + g)), acc[t]);
        }
    }
    alignas(32) float lanes[8];
    for (int t = 0; t < NT; ++t) {
        _mm256_store_ps(lanes, acc[t]);
        for (int64_t i = 0; i < rows; ++i) y[t * ldy + i * step] = lanes[i];
    }
}

template <typename Lanes>
inline void eight_rows_tokens(const uint8_t* const* p, const Activations& x, int64_t tokens,
                              float* y, int64_t ldy, int64_t step, int64_t rows) {
    const int64_t groups = x.k / kGroup;
    for (int64_t t = 0; t < tokens; t += kColumns) {
        const Activations from{x.f + t * x.k, x.q + t * x.k, x.d + t * groups, x.s + t * groups,
                               x.k};
        float* out = y + t * ldy;
        switch (tokens - t) {
            case 1: eight_rows_columns<Lanes, 1>(p, from, out, ldy, step, rows); break;
            case 2: eight_rows_columns<Lanes, 2>(p, from, out, ldy, step, rows); break;
            case 3: eight_rows_columns<Lanes, 3>(p, from, out, ldy, step, rows); break;
            default: eight_rows_columns<Lanes, 4>(p, from, out, ldy, step, rows);
        }
    }
}

template <typename Lanes>
inline void columns_lanes(const void* w, int64_t rows, const Activations& x, int64_t tokens,
                          float* y, int64_t ldy) {
    const uint8_t* base = static_cast<const uint8_t*>(w);
    const int64_t stride = x.k / kGroup * Lanes::kBytes;
    const int64_t share = rows / 8;
    const uint8_t* p[8];
    for (int i = 0; i < 8; ++i) p[i] = base + i * share * stride;
    for (int64_t r = 0; r < share; ++r) {
        eight_rows_tokens<Lanes>(p, x, tokens, y + r, ldy, share, 8);
        for (int i = 0; i < 8; ++i) p[i] += stride;
    }
    const int64_t done = share * 8;
    if (done == rows) return;
    for (int64_t i = 0; i < 8; ++i)
        p[i] = base + (done + i < rows ? done + i : rows - 1) * stride;
    eight_rows_tokens<Lanes>(p, x, tokens, y + done, ldy, 1, rows - done);
}

void matvec_q8(const void* w, int64_t rows, const Activations& x, float* y) {
    matvec_lanes<LanesQ8>(w, rows, x, y);
}

void matvec_q4(const void* w, int64_t rows, const Activations& x, float* y) {
    matvec_lanes<LanesQ4>(w, rows, x, y);
}

void columns_q8(const void* w, int64_t rows, const Activations& x, int64_t tokens, float* y,
                int64_t ldy) {
    columns_lanes<LanesQ8>(w, rows, x, tokens, y, ldy);
}

void columns_q4(const void* w, int64_t rows, const Activations& x, int64_t tokens, float* y,
                int64_t ldy) {
    columns_lanes<LanesQ4>(w, rows, x, tokens, y, ldy);
}

}  // namespace
}  // namespace rwkv
