// NEON with sdot (ARMv8.2 dot product: Graviton2, Apple M1 and later).
#define NEON_TABLE kernels_neon_dotprod
#define NEON_NAME "neon_dotprod"
#define DOTPROD
#include "kernels_neon.inl"
