// What every processor of a family has: SSE2, NEON.
#define VW 4
#define VECTORS 2
#define VECTORS_BACKWARD 1
#define ROWS 8
#include "vectors.inl"
#include "elementwise.inl"
#include "wkv7.inl"

namespace friend_kernels {

const Kernels kernels_baseline = {"baseline", VW, wkv7_forward, wkv7_backward, mix_forward, mix_backward,
    relu_square_forward, relu_square_backward, operands_forward, operands_backward};

}  // namespace friend_kernels
