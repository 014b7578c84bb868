// How many processors this process really has.
#pragma once

#include <string>

namespace rwkv {

// The processors the scheduler may use, cut down to the cgroup's CPU quota
// (v1 or v2, rounded down, at least 1): a container given half of a 64-core
// machine's time on two of them must not start 64 threads. `root` is the file
// system's root, another one in tests.
int cpu_limit(const std::string& root = "");

}  // namespace rwkv
