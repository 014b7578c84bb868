// Which tables of kernels this processor runs.
#include "kernels.h"

namespace friend_kernels {
namespace {

struct Supported {
    const Kernels* tables[4];
    Supported() : tables{} {
        int n = 0;
#if defined(__x86_64__) || defined(_M_X64)
        // The compiler's check covers the operating system's part as well.
        const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
        if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
            tables[n++] = &kernels_avx512;
        if (avx2) tables[n++] = &kernels_avx2;
#endif
        tables[n++] = &kernels_baseline;
    }
};

}  // namespace

const Kernels* const* supported_kernels() {
    static const Supported supported;
    return supported.tables;
}

}  // namespace friend_kernels
