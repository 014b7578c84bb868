// AVX-512 F, BW, VL, DQ.
#if defined(__x86_64__) || defined(_M_X64)
#define VW 16
#define VECTORS 4
#define VECTORS_BACKWARD 2
#define ROWS 16
#include "vectors.inl"
#include "elementwise.inl"
#include "wkv7.inl"

namespace friend_kernels {

const Kernels kernels_avx512 = {"avx512", VW, wkv7_forward, wkv7_backward, mix_forward, mix_backward,
    relu_square_forward, relu_square_backward, operands_forward, operands_backward};

}  // namespace friend_kernels
#endif
