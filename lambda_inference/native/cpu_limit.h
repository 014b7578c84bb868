// How many processors this process really has.
#pragma once

#include <string>

namespace rwkv {

// The processors the scheduler may use, cut down to the cgroup's CPU quota (v1
// or v2) or to what Lambda gives for its memory: a container given half of a
// 64-core machine's time on two of them must not start 64 threads.
//
// A part of a processor counts from more than a half on, and there is always
// one. Threads beyond the quota are all stopped together for the rest of each
// period, so they gain little and stutter; docs/benchmarks.md has the figures.
//
// `root` is the file system's root, another one in tests.
int cpu_limit(const std::string& root = "");

}  // namespace rwkv
