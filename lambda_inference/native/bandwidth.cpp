#include "bandwidth.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <vector>

#include "engine.h"
#include "thread_pool.h"

namespace rwkv {
namespace {

constexpr int64_t kBlock = 272 * 1024 / 8;  // words; its eighths start at different page offsets
constexpr int64_t kHugePage = 2 * 1024 * 1024;

}  // namespace

double read_bandwidth(int threads, int64_t bytes, int passes) {
    threads = std::max(1, threads);
    const int64_t part = threads * kBlock;
    const int64_t words = std::max<int64_t>(1, bytes / 8 / part) * part;
    Buffer<uint64_t> buffer;
    buffer.resize(words + kHugePage / 8);
    const auto address = reinterpret_cast<uintptr_t>(buffer.data());
    auto* const start =
        reinterpret_cast<uint64_t*>((address + kHugePage - 1) / kHugePage * kHugePage);
#if defined(__linux__)
    // What memory gives, not what the translation of addresses leaves of it.
    madvise(start, static_cast<size_t>(words) * 8, MADV_HUGEPAGE);
#endif
    std::memset(start, 1, static_cast<size_t>(words) * 8);
    ThreadPool pool(threads);
    std::atomic<uint64_t> sink{0};
    double best = 0;
    for (int pass = 0; pass < passes; ++pass) {
        const auto begun = std::chrono::steady_clock::now();
        pool.run([&](int index) {
            // One stream, or eight side by side in blocks, as the products of
            // decoding read: which is the faster depends on the processor.
            const int64_t streams = pass % 2 == 0 ? 8 : 1;
            const int64_t share = words / threads;
            const int64_t block = streams == 1 ? share : kBlock;
            uint64_t sums[8] = {};
            for (int64_t at = 0; at < share; at += block) {
                const uint64_t* p = start + index * share + at;
                for (int64_t i = 0; i < block / streams; i += 8) {
                    for (int64_t s = 0; s < streams; ++s) {
                        const uint64_t* line = p + s * (block / streams) + i;
                        __builtin_prefetch(line + (streams == 1 ? 128 : 32));
                        for (int j = 0; j < 8; ++j) sums[j] += line[j];
                    }
                }
            }
            uint64_t total = 0;
            for (const uint64_t s : sums) total += s;
            sink.fetch_add(total, std::memory_order_relaxed);
        });
        const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begun;
        best = std::max(best, static_cast<double>(words) * 8 / elapsed.count());
    }
    // The sum keeps the reads from being optimized away.
    return sink.load() == 0 ? 0.0 : best;
}

}  // namespace rwkv
