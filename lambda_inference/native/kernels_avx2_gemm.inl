// The quantized matrix products of AVX2, which has no instruction that adds
// products of bytes into 32 bits. Weights and activations are both repacked, so
// that the inner loop is nothing but load, multiply and add: a lane is a row,
// and the columns of a step, two or four of them, share its 32 bits.
namespace rwkv {
namespace {

constexpr int64_t kBlockTokens = 4;  // times two vectors of rows: eight sums in registers

// A fence for the compiler: GCC would otherwise do all products first and spill
// every one of them.
inline void settle(__m256i& v) { __asm__("" : "+x"(v)); }

inline __m128i load128(const void* p) {
    return _mm_loadu_si128(static_cast<const __m128i*>(p));
}

inline __m256i load256(const void* p) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}

inline void store256(void* p, __m256i v) {
    _mm256_storeu_si256(static_cast<__m256i*>(p), v);
}

// Bytes widened to 16 bits, two columns a step: exact for every value, where a
// product of bytes would first need the weight's sign moved to the activation.
struct TileQ8 {
    static constexpr int64_t kBytes = kQ8BlockBytes;
    static constexpr int kParts = 2;             // of a group, 8 steps each
    static constexpr int64_t kSlabGroups = 8;  // packed at once: 8 KiB of weights
    static inline __m256i weights(const uint8_t* block, int part) {
        return _mm256_cvtepi8_epi16(load128(block + 2 + part * 16));
    }
    static inline __m256i activations(const int8_t* q, int part) {
        return _mm256_cvtepi8_epi16(load128(q + part * 16));
    }
    static inline __m256i multiply(__m256i w, __m256i x) { return _mm256_madd_epi16(w, x); }
    static inline __m256i add(__m256i a, __m256i b) { return _mm256_add_epi32(a, b); }
    static inline __m256i total(__m256i sum, int32_t) { return sum; }
};

// Nibbles stay unsigned, four columns a step: the sums of a whole group, at
// most 16 products of 15 * 127 a lane, fit in 16 bits.
struct TileQ4 {
    static constexpr int64_t kBytes = kQ4BlockBytes;
    static constexpr int kParts = 1;
    static constexpr int64_t kSlabGroups = 16;
    static inline __m256i weights(const uint8_t* block, int) {
        const __m128i both = load128(block + 2);
        return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(both, 4), both),
                                _mm256_set1_epi8(15));
    }
    static inline __m256i activations(const int8_t* q, int) { return load256(q); }
    static inline __m256i multiply(__m256i w, __m256i x) { return _mm256_maddubs_epi16(w, x); }
    static inline __m256i add(__m256i a, __m256i b) { return _mm256_add_epi16(a, b); }
    static inline __m256i total(__m256i sum, int32_t s) {
        return _mm256_add_epi32(_mm256_madd_epi16(sum, _mm256_set1_epi16(1)),
                                _mm256_set1_epi32(shift_q4(s)));
    }
};

template <typename Tile>
struct Packed {
    static constexpr int kSteps = Tile::kParts * 8;
    static constexpr int64_t kSlab = Tile::kSlabGroups;
    static constexpr int64_t kBlocks = (kMaxTokens + kBlockTokens - 1) / kBlockTokens;
    struct Block {
        int32_t x[kSlab][kSteps][kBlockTokens];
        float d[kSlab][kBlockTokens];
        int32_t s[kSlab][kBlockTokens];
    };
    uint8_t w[kSlab][kSteps][kTileRows * 4];
    float scales[kSlab][kTileRows];
    float sums[kGemmRows / kTileRows][kMaxTokens][kTileRows];
    Block blocks[kBlocks];
};

template <typename Tile>
inline void pack_weights(const uint8_t* tile, int64_t rows, int64_t stride, int64_t groups,
                         const uint8_t* next, Packed<Tile>& to) {
    for (int64_t g = 0; g < groups; ++g) {
        alignas(32) uint16_t halves[kTileRows];
        const uint8_t* block[kTileRows];
        for (int64_t r = 0; r < kTileRows; ++r) {
            const int64_t row = (r < rows ? r : rows - 1) * stride;
            block[r] = tile + row + g * Tile::kBytes;
            halves[r] = read_u16(block[r]);
            // What is packed next, by the time this is used up.
            if (g * Tile::kBytes % 64 < Tile::kBytes)
                _mm_prefetch(reinterpret_cast<const char*>(next + row + g * Tile::kBytes),
                             _MM_HINT_T1);
        }
        for (int part = 0; part < Tile::kParts; ++part) {
            for (int half = 0; half < 2; ++half) {
                __m256i v[8];
                for (int i = 0; i < 8; ++i) v[i] = Tile::weights(block[half * 8 + i], part);
                transpose8(v);
                for (int i = 0; i < 8; ++i) store256(to.w[g][part * 8 + i] + half * 32, v[i]);
            }
        }
        for (int half = 0; half < 2; ++half)
            _mm256_storeu_ps(to.scales[g] + half * 8,
                             _mm256_cvtph_ps(load128(halves + half * 8)));
    }
}

// Tokens t to t + 3; those beyond the last repeat it and are not used.
template <typename Tile>
inline void pack_activations(const Activations& x, int64_t t, int64_t tokens, int64_t g0,
                             int64_t groups, typename Packed<Tile>::Block& to) {
    const int8_t* q[kBlockTokens];
    int64_t at[kBlockTokens];
    for (int64_t i = 0; i < kBlockTokens; ++i) {
        const int64_t token = t + i < tokens ? t + i : tokens - 1;
        q[i] = x.q + token * x.k + g0 * kGroup;
        at[i] = token * (x.k / kGroup) + g0;
    }
    for (int64_t g = 0; g < groups; ++g) {
        for (int part = 0; part < Tile::kParts; ++part) {
            __m256i v[kBlockTokens];
            for (int i = 0; i < kBlockTokens; ++i)
                v[i] = Tile::activations(q[i] + g * kGroup, part);
            const __m256i a = _mm256_unpacklo_epi32(v[0], v[1]);
            const __m256i b = _mm256_unpackhi_epi32(v[0], v[1]);
            const __m256i c = _mm256_unpacklo_epi32(v[2], v[3]);
            const __m256i d = _mm256_unpackhi_epi32(v[2], v[3]);
            // Steps 0 and 4, 1 and 5, 2 and 6, 3 and 7.
            const __m256i e = _mm256_unpacklo_epi64(a, c), f = _mm256_unpackhi_epi64(a, c);
            const __m256i h = _mm256_unpacklo_epi64(b, d), i = _mm256_unpackhi_epi64(b, d);
            int32_t* out = to.x[g][part * 8];
            store256(out, _mm256_permute2x128_si256(e, f, 0x20));
            store256(out + 8, _mm256_permute2x128_si256(h, i, 0x20));
            store256(out + 16, _mm256_permute2x128_si256(e, f, 0x31));
            store256(out + 24, _mm256_permute2x128_si256(h, i, 0x31));
        }
        for (int i = 0; i < kBlockTokens; ++i) {
            to.d[g][i] = x.d[at[i] + g];
            to.s[g][i] = x.s[at[i] + g];
        }
    }
}

template <typename Tile, int NT>
inline void micro(const Packed<Tile>& tile, const typename Packed<Tile>::Block& x, int64_t groups,
                  float (*sums)[kTileRows]) {
    for (int64_t g = 0; g < groups; ++g) {
        __m256i c[NT][2];
#pragma GCC unroll 16
        for (int i = 0; i < Packed<Tile>::kSteps; ++i) {
            const __m256i w0 = load256(tile.w[g][i]), w1 = load256(tile.w[g][i] + 32);
#pragma GCC unroll 4
            for (int t = 0; t < NT; ++t) {
                const __m256i xt = _mm256_set1_epi32(x.x[g][i][t]);
                const __m256i p0 = Tile::multiply(w0, xt), p1 = Tile::multiply(w1, xt);
                c[t][0] = i == 0 ? p0 : Tile::add(c[t][0], p0);
                c[t][1] = i == 0 ? p1 : Tile::add(c[t][1], p1);
                settle(c[t][0]);
                settle(c[t][1]);
            }
        }
#pragma GCC unroll 4
        for (int t = 0; t < NT; ++t) {
            const __m256 d = _mm256_broadcast_ss(x.d[g] + t);
            for (int half = 0; half < 2; ++half) {
                float* sum = sums[t] + half * 8;
                const __m256 scale =
                    _mm256_mul_ps(_mm256_loadu_ps(tile.scales[g] + half * 8), d);
                const __m256 total =
                    _mm256_cvtepi32_ps(Tile::total(c[t][half], x.s[g][t]));
                _mm256_storeu_ps(sum, _mm256_fmadd_ps(total, scale, _mm256_loadu_ps(sum)));
            }
        }
    }
}

template <typename Tile>
inline void quant_gemm(const void* w, int64_t rows, const Activations& x, int64_t tokens, float* y,
                       int64_t ldy, void* scratch) {
    static_assert(sizeof(Packed<Tile>) <= kScratchBytes, "scratch too small");
    auto& packed = *static_cast<Packed<Tile>*>(scratch);
    const uint8_t* base = static_cast<const uint8_t*>(w);
    const int64_t groups = x.k / kGroup;
    const int64_t stride = groups * Tile::kBytes;
    const int64_t tiles = (rows + kTileRows - 1) / kTileRows;
    for (int64_t i = 0; i < tiles; ++i)
        __builtin_memset(packed.sums[i], 0, static_cast<size_t>(tokens) * kTileRows * 4);
    for (int64_t g0 = 0; g0 < groups; g0 += Tile::kSlabGroups) {
        const int64_t count = groups - g0 < Tile::kSlabGroups ? groups - g0 : Tile::kSlabGroups;
        for (int64_t t = 0; t < tokens; t += kBlockTokens)
            pack_activations<Tile>(x, t, tokens, g0, count, packed.blocks[t / kBlockTokens]);
        for (int64_t i = 0; i < tiles; ++i) {
            const uint8_t* tile = base + i * kTileRows * stride + g0 * Tile::kBytes;
            const uint8_t* next = i + 1 < tiles ? tile + kTileRows * stride
                                  : g0 + count < groups ? base + (g0 + count) * Tile::kBytes
                                                        : base + rows * stride;
            pack_weights<Tile>(tile, rows - i * kTileRows, stride, count, next, packed);
            for (int64_t t = 0; t < tokens; t += kBlockTokens) {
                const auto& block = packed.blocks[t / kBlockTokens];
                switch (tokens - t) {
                    case 1: micro<Tile, 1>(packed, block, count, packed.sums[i] + t); break;
                    case 2: micro<Tile, 2>(packed, block, count, packed.sums[i] + t); break;
                    case 3: micro<Tile, 3>(packed, block, count, packed.sums[i] + t); break;
                    default: micro<Tile, 4>(packed, block, count, packed.sums[i] + t);
                }
            }
        }
    }
    for (int64_t t = 0; t < tokens; ++t)
        for (int64_t r = 0; r < rows; ++r)
            y[t * ldy + r] = packed.sums[r / kTileRows][t][r % kTileRows];
}

void gemm_q8(const void* w, int64_t rows, const Activations& x, int64_t tokens, float* y,
             int64_t ldy, void* scratch) {
    quant_gemm<TileQ8>(w, rows, x, tokens, y, ldy, scratch);
}

void gemm_q4(const void* w, int64_t rows, const Activations& x, int64_t tokens, float* y,
             int64_t ldy, void* scratch) {
    quant_gemm<TileQ4>(w, rows, x, tokens, y, ldy, scratch);
}

}  // namespace
}  // namespace rwkv
