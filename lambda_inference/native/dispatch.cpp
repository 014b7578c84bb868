// Which table of kernels this processor runs.
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "kernels.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace rwkv {
namespace {

#if defined(__x86_64__) || defined(_M_X64)
bool has_f16c() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

bool has_avx2() {
    // The compiler's check covers the operating system's part as well.
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

bool has_avx512() {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
}
#elif defined(__aarch64__)
bool has_dotprod() {
#if defined(__linux__)
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#elif defined(__APPLE__)
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname("hw.optional.arm.FEAT_DotProd", &value, &size, nullptr, 0) == 0 &&
           value != 0;
#else
    return false;
#endif
}
#endif

struct Supported {
    const Kernels* tables[4];
    Supported() : tables{} {
        int n = 0;
#if defined(__x86_64__) || defined(_M_X64)
        if (has_avx512()) tables[n++] = &kernels_avx512;
        if (has_avx2()) tables[n++] = &kernels_avx2;
#elif defined(__aarch64__)
        if (has_dotprod()) tables[n++] = &kernels_neon_dotprod;
        tables[n++] = &kernels_neon;
#endif
        tables[n++] = &kernels_scalar;
    }
};

}  // namespace

const Kernels* const* supported_kernels() {
    static const Supported supported;
    return supported.tables;
}

const Kernels& choose_kernels() {
    const Kernels* const* tables = supported_kernels();
    const char* wanted = std::getenv("FRIEND_ISA");
    if (wanted == nullptr || *wanted == '\0') return *tables[0];
    std::string names;
    for (int i = 0; tables[i] != nullptr; ++i) {
        if (std::string(tables[i]->name) == wanted) return *tables[i];
        names += (i > 0 ? ", " : "") + std::string(tables[i]->name);
    }
    throw std::runtime_error("FRIEND_ISA is '" + std::string(wanted) +
                             "', but this processor and build run only: " + names);
}

}  // namespace rwkv
