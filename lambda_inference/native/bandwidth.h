// What memory gives: the ceiling that decoding is measured against.
#pragma once

#include <cstdint>

namespace rwkv {

// Best rate, in bytes a second, of reading a buffer of `bytes` from memory
// with `threads` threads, over `passes` passes. Make it several times the
// last-level cache.
double read_bandwidth(int threads, int64_t bytes, int passes);

}  // namespace rwkv
