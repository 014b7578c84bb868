// Vectors of VW floats by the compiler's extension: the same source for every instruction set.
// Everything is static: a function compiled for one instruction set must never be the copy that
// the linker keeps for another.
#include <cstring>
#include <memory>
#include <new>
#include <utility>

#include "kernels.h"

namespace friend_kernels {
namespace {

typedef float vf __attribute__((vector_size(VW * 4), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(VW * 4), aligned(4), may_alias));

inline vf load(const float* p) { return *reinterpret_cast<const vf*>(p); }
inline void store(float* p, vf x) { *reinterpret_cast<vf*>(p) = x; }

// bfloat16: the upper half of a float, rounded to nearest even as PyTorch does.
typedef uint16_t bf16;
typedef uint32_t vu __attribute__((vector_size(VW * 4), aligned(4), may_alias));
typedef uint16_t vh __attribute__((vector_size(VW * 2), aligned(2), may_alias));

inline vf load(const bf16* p) {
    const vu bits = __builtin_convertvector(*reinterpret_cast<const vh*>(p), vu) << 16;
    return reinterpret_cast<const vf&>(bits);
}
inline void store(bf16* p, vf x) {
    const vu bits = reinterpret_cast<const vu&>(x);
    const vu rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    const vu quiet = vu{} + 0x7fc0;
    *reinterpret_cast<vh*>(p) = __builtin_convertvector(x == x ? rounded : quiet, vh);
}

inline vf all(float x) { return x - vf{}; }

// exp to about 1 ulp (Cephes' reduction and polynomial, S. Moshier, expf).
inline vf exp_v(vf x) {
    x = x > all(-87.3f) ? x : all(-87.3f);
    x = x < all(88.0f) ? x : all(88.0f);
    const vf n = (x * 1.44269504088896341f + 12582912.0f) - 12582912.0f;
    const vf r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    vf p = all(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    const vi bits = (__builtin_convertvector(n, vi) + 127) << 23;
    return p * reinterpret_cast<const vf&>(bits);
}

// Lane l takes lane l without bit H (plus Up) of x, or of y where bit H is set.
template <int H, int Up, int... L>
inline vf interleave(vf x, vf y, std::integer_sequence<int, L...>) {
#if defined(__clang__)
    return __builtin_shufflevector(x, y, ((L & ~H) + Up + ((L & H) != 0 ? VW : 0))...);
#else
    return __builtin_shuffle(x, y, vi{((L & ~H) + Up + ((L & H) != 0 ? VW : 0))...});
#endif
}

template <int H>
inline void fold(vf* p) {
    constexpr auto lanes = std::make_integer_sequence<int, VW>{};
    for (int i = 0; i < H; ++i)
        p[i] = interleave<H, 0>(p[i], p[i + H], lanes) + interleave<H, H>(p[i], p[i + H], lanes);
    if constexpr (H > 1) fold<H / 2>(p);
}

// p[i][l] and p[l][i] change places, of VW vectors.
template <int H = VW / 2>
inline void transpose_tile(vf* p) {
    constexpr auto lanes = std::make_integer_sequence<int, VW>{};
    for (int i = 0; i < VW; ++i) {
        if ((i & H) != 0) continue;
        const vf x = p[i], y = p[i + H];
        p[i] = interleave<H, 0>(x, y, lanes);
        p[i + H] = interleave<H, H>(x, y, lanes);
    }
    if constexpr (H > 1) transpose_tile<H / 2>(p);
}

// Lane i is the sum of p[i]'s lanes. Overwrites p[VW].
inline vf sums(vf* p) {
    fold<VW / 2>(p);
    return p[0];
}

inline float sum(vf x) {
    float total = 0;
    for (int i = 0; i < VW; ++i) total += x[i];
    return total;
}

struct Free {
    void operator()(float* p) const { ::operator delete[](p, std::align_val_t{64}); }
};
using Floats = std::unique_ptr<float[], Free>;

// Without values, at the start of a cache line.
inline Floats floats(int64_t count) {
    const auto bytes = static_cast<size_t>(count) * sizeof(float);
    return Floats(static_cast<float*>(::operator new[](bytes, std::align_val_t{64})));
}

}  // namespace
}  // namespace friend_kernels
