// The quantized matrix product of the instruction sets that can add products of
// bytes into 32 bits at once (AVX2 has its own).
// A tile of 16 rows is packed so that a vector lane is a row; a tile's groups
// then need one conversion and one multiply-add a token, not one a row.
//
// The including file defines
//   pack_group(rows, out)      16 pointers to 32 int8 -> [8][16][4] in its order
//   micro<NT>(pack, scales, groups, x, t, g0, acc)
//   kMicroTokens
namespace rwkv {
namespace {

constexpr int64_t kSlabGroups = 32;  // groups of a tile packed at once

struct UnpackQ8 {
    static constexpr int64_t kBytes = kQ8BlockBytes;
    static inline void values(const uint8_t* block, int8_t* out) {
        __builtin_memcpy(out, block + 2, kGroup);
    }
};

struct UnpackQ4 {
    static constexpr int64_t kBytes = kQ4BlockBytes;
    static inline void values(const uint8_t* block, int8_t* out) {
        typedef uint8_t Bytes __attribute__((vector_size(16)));
        Bytes both;
        __builtin_memcpy(&both, block + 2, 16);
        const Bytes low = (both & 15) - 8;
        const Bytes high = (both >> 4) - 8;
        __builtin_memcpy(out, &low, 16);
        __builtin_memcpy(out + 16, &high, 16);
    }
};

template <typename Unpack>
inline void quant_tile(const void* w, int64_t rows, const Activations& x, int64_t tokens, float* y,
                       int64_t ldy, void* scratch) {
    constexpr int64_t kPackBytes = kGroup * kTileRows;
    int8_t* pack = static_cast<int8_t*>(scratch);                                // [slab][8][16][4]
    float* scales = reinterpret_cast<float*>(pack + kSlabGroups * kPackBytes);   // [slab][16]
    float* acc = scales + kSlabGroups * kTileRows;                               // [tokens][16]
    static_assert(kSlabGroups * kPackBytes + kSlabGroups * kTileRows * 4 +
                  kMaxTokens * kTileRows * 4 <= static_cast<int64_t>(kScratchBytes),
                  "scratch too small");
    const uint8_t* base = static_cast<const uint8_t*>(w);
    const int64_t groups = x.k / kGroup;
    const int64_t stride = groups * Unpack::kBytes;
    for (int64_t i = 0; i < tokens * kTileRows; ++i) acc[i] = 0.0f;
    for (int64_t g0 = 0; g0 < groups; g0 += kSlabGroups) {
        const int64_t count = groups - g0 < kSlabGroups ? groups - g0 : kSlabGroups;
        for (int64_t g = 0; g < count; ++g) {
            alignas(64) int8_t values[kTileRows][kGroup];
            alignas(64) uint16_t halves[kTileRows];
            for (int64_t r = 0; r < kTileRows; ++r) {
                const uint8_t* block =
                    base + (r < rows ? r : rows - 1) * stride + (g0 + g) * Unpack::kBytes;
                halves[r] = read_u16(block);
                Unpack::values(block, values[r]);
            }
            // The next tile, by the time this one is done.
            const uint8_t* next = base + rows * stride + (g0 + g) * kTileRows * Unpack::kBytes;
            for (int64_t line = 0; line < kTileRows * Unpack::kBytes; line += 64)
                __builtin_prefetch(next + line, 0, 2);
            pack_group(values, pack + g * kPackBytes);
            for (int r = 0; r < kTileRows; r += VW)
                store(scales + g * kTileRows + r, load_f16(halves + r));
        }
        int64_t t = 0;
        for (; t + kMicroTokens <= tokens; t += kMicroTokens)
            micro<kMicroTokens>(pack, scales, count, x, t, g0, acc + t * kTileRows);
        for (; t + 4 <= tokens; t += 4)
            micro<4>(pack, scales, count, x, t, g0, acc + t * kTileRows);
        for (; t + 2 <= tokens; t += 2)
            micro<2>(pack, scales, count, x, t, g0, acc + t * kTileRows);
        for (; t < tokens; ++t)
            micro<1>(pack, scales, count, x, t, g0, acc + t * kTileRows);
    }
    for (int64_t t = 0; t < tokens; ++t)
        for (int64_t r = 0; r < rows; ++r) y[t * ldy + r] = acc[t * kTileRows + r];
}

template <typename Unpack>
inline void quant_gemm(const void* w, int64_t rows, const Activations& x, int64_t tokens, float* y,
                       int64_t ldy, void* scratch) {
    const uint8_t* base = static_cast<const uint8_t*>(w);
    const int64_t stride = x.k / kGroup * Unpack::kBytes;
    for (int64_t r = 0; r < rows; r += kTileRows)
        quant_tile<Unpack>(base + r * stride, rows - r < kTileRows ? rows - r : kTileRows, x, tokens,
                           y + r, ldy, scratch);
}

void gemm_q8(const void* w, int64_t rows, const Activations& x, int64_t tokens, float* y,
             int64_t ldy, void* scratch) {
    quant_gemm<UnpackQ8>(w, rows, x, tokens, y, ldy, scratch);
}

void gemm_q4(const void* w, int64_t rows, const Activations& x, int64_t tokens, float* y,
             int64_t ldy, void* scratch) {
    quant_gemm<UnpackQ4>(w, rows, x, tokens, y, ldy, scratch);
}

}  // namespace
}  // namespace rwkv
