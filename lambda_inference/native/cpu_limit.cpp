#include "cpu_limit.h"

#if defined(__linux__)
#include <sched.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

namespace rwkv {
namespace {

// Processors' worth of time a period, or infinity without a limit.
double quota_v2(const std::string& directory) {
    std::ifstream file(directory + "/cpu.max");
    std::string quota;
    double period = 0;
    if (!(file >> quota >> period) || quota == "max" || period <= 0) return INFINITY;
    const double value = std::strtod(quota.c_str(), nullptr);
    return value > 0 ? value / period : INFINITY;
}

double quota_v1(const std::string& directory) {
    std::ifstream quota_file(directory + "/cpu.cfs_quota_us");
    std::ifstream period_file(directory + "/cpu.cfs_period_us");
    double quota = 0, period = 0;
    if (!(quota_file >> quota) || !(period_file >> period) || quota <= 0 || period <= 0)
        return INFINITY;
    return quota / period;
}

// The tightest limit from the group up to the root: any of them binds.
template <typename Quota>
double tightest(const std::string& mount, std::string group, Quota quota) {
    double limit = quota(mount);
    while (!group.empty() && group != "/") {
        limit = std::min(limit, quota(mount + group));
        const auto slash = group.rfind('/');
        group = slash == std::string::npos ? "" : group.substr(0, slash);
    }
    return limit;
}

double cgroup_limit(const std::string& root) {
    double limit = INFINITY;
    std::ifstream file(root + "/proc/self/cgroup");
    for (std::string line; std::getline(file, line);) {
        std::istringstream fields(line);
        std::string id, controllers, group;
        if (!std::getline(fields, id, ':') || !std::getline(fields, controllers, ':') ||
            !std::getline(fields, group))
            continue;
        if (controllers.empty()) {
            limit = std::min(limit, tightest(root + "/sys/fs/cgroup", group, quota_v2));
        } else if (("," + controllers + ",").find(",cpu,") != std::string::npos) {
            limit = std::min(limit, tightest(root + "/sys/fs/cgroup/cpu", group, quota_v1));
        }
    }
    return limit;
}

// Lambda gives processor time by memory, a whole processor's at 1769 MB, and
// enforces it outside, where no cgroup file tells of it: 1769 MB still see two.
// https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
double lambda_limit() {
    constexpr double kMegabytesOfOne = 1769;
    const char* memory = std::getenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE");
    const double megabytes = memory == nullptr ? 0 : std::strtod(memory, nullptr);
    return megabytes > 0 ? megabytes / kMegabytesOfOne : INFINITY;
}

int visible() {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace

int cpu_limit(const std::string& root) {
    const double limit = std::min(cgroup_limit(root), lambda_limit());
    const int cpus = visible();
    if (!(limit < cpus)) return cpus;
    return std::max(1, static_cast<int>(std::ceil(limit - 0.5)));
}

}  // namespace rwkv
