// NEON as every 64-bit ARM has it.
#define NEON_TABLE kernels_neon
#define NEON_NAME "neon"
#include "kernels_neon.inl"
