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
            const uint64_t* p = buffer.data() + index * share;
            uint64_t sums[8] = {};
            for (int64_t i = 0; i < share; i += 8) {
                __builtin_prefetch(p + i + 128);
                for (int j = 0; j < 8; ++j) sums[j] += p[i + j];
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
