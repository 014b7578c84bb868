#include "thread_pool.h"

#include <sched.h>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace rwkv {
namespace {

constexpr int kSpins = 2000;        // some 20 to 100 microseconds
constexpr int kIdleYields = 200;    // before a worker sleeps between jobs

inline void pause() {
#if defined(__x86_64__) || defined(_M_X64)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

}  // namespace

void Barrier::wait() {
    const uint32_t round = round_.load(std::memory_order_relaxed);
    if (waiting_.fetch_add(1, std::memory_order_acq_rel) == threads_ - 1) {
        waiting_.store(0, std::memory_order_relaxed);
        round_.store(round + 1, std::memory_order_release);
        return;
    }
    for (int i = 0; round_.load(std::memory_order_acquire) == round; ++i) {
        if (i < kSpins)
            pause();
        else
            sched_yield();
    }
}

ThreadPool::ThreadPool(int threads) : threads_(threads), barrier_(threads) {
    workers_.reserve(static_cast<size_t>(threads - 1));
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
}

ThreadPool::~ThreadPool() {
    {
        std::lock_guard<std::mutex> lock(mutex_);
        stopping_.store(true);
        generation_.fetch_add(1);
    }
    wake_.notify_all();
    for (auto& worker : workers_) worker.join();
}

void ThreadPool::run(const std::function<void(int)>& job) {
    if (threads_ == 1) {
        job(0);
        return;
    }
    {
        std::lock_guard<std::mutex> lock(mutex_);
        job_ = &job;
        generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    job(0);
    barrier_.wait();  // No worker may still hold the job when it goes away.
}

void ThreadPool::work(int index) {
    uint64_t seen = 0;
    for (;;) {
        // The next token usually comes soon: stay awake for a moment.
        for (int i = 0; i < kSpins && generation_.load(std::memory_order_acquire) == seen; ++i)
            pause();
        for (int i = 0; i < kIdleYields && generation_.load(std::memory_order_acquire) == seen; ++i)
            sched_yield();
        {
            std::unique_lock<std::mutex> lock(mutex_);
            wake_.wait(lock, [&] { return generation_.load() != seen; });
            seen = generation_.load();
        }
        if (stopping_.load()) return;
        (*job_)(index);
        barrier_.wait();
    }
}

}  // namespace rwkv
