#include "bandwidth.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <vector>

#include "engine.h"
#include "thread_pool.h"

namespace rwkv {

double read_bandwidth(int threads, int64_t bytes, int passes) {
    threads = std::max(1, threads);
    const int64_t words = std::max<int64_t>(bytes, 1 << 20) / 8 / (threads * 64) * (threads * 64);
    Buffer<uint64_t> buffer;
    buffer.resize(words);
    std::memset(buffer.data(), 1, static_cast<size_t>(words) * 8);
    ThreadPool pool(threads);
    std::atomic<uint64_t> sink{0};
    double best = 0;
    for (int pass = 0; pass < passes; ++pass) {
        const auto start = std::chrono::steady_clock::now();
        pool.run([&](int index) {
            const int64_t share = words / threads;
            // One stream, or eight that run side by side, a cache line of each in
            // turn: which is the faster depends on the processor.
            const int64_t streams = pass % 2 == 0 ? 8 : 1;
            // (33 lines shorter, or all eight would fall on the same lines of the cache.)
            const int64_t length = share / streams - (streams > 1 ? 33 * 8 : 0);
            const uint64_t* p = buffer.data() + index * share;
            uint64_t sums[8] = {};
            for (int64_t i = 0; i < length; i += 8) {
                for (int64_t s = 0; s < streams; ++s) {
                    const uint64_t* line = p + s * length + i;
                    if (streams == 1) __builtin_prefetch(line + 128);
                    for (int j = 0; j < 8; ++j) sums[j] += line[j];
                }
            }
            uint64_t total = 0;
            for (const uint64_t s : sums) total += s;
            sink.fetch_add(total, std::memory_order_relaxed);
        });
        const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
        best = std::max(best, static_cast<double>(words) * 8 / elapsed.count());
    }
    // The sum keeps the reads from being optimized away.
    return sink.load() == 0 ? 0.0 : best;
}

}  // namespace rwkv
