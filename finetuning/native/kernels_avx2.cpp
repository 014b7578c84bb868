// AVX2 and FMA.
#if defined(__x86_64__) || defined(_M_X64)
#define VW 8
#define VECTORS 2
#define VECTORS_BACKWARD 1
#define ROWS 8
#include "vectors.inl"
#include "elementwise.inl"
#include "wkv7.inl"

namespace friend_kernels {

const Kernels kernels_avx2 = {"avx2", VW, wkv7_forward, wkv7_backward, mix_forward, mix_backward,
    relu_square_forward, relu_square_backward, operands_forward, operands_backward};

}  // namespace friend_kernels
#endif
