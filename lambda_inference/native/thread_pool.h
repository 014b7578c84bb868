// Threads that run one function together, with a barrier between its steps.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace rwkv {

// Spins for a moment, then yields the processor: a thread that the scheduler
// took away (a busy machine, a CPU quota) must not be waited for at full speed.
class Barrier {
  public:
    explicit Barrier(int threads) : threads_(threads) {}
    void wait();

  private:
    const int threads_;
    alignas(64) std::atomic<int> waiting_{0};
    alignas(64) std::atomic<uint32_t> round_{0};
};

class ThreadPool {
  public:
    explicit ThreadPool(int threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int threads() const { return threads_; }
    // Runs job(thread index) on every thread, the caller being thread 0. The
    // job must not throw.
    void run(const std::function<void(int)>& job);
    void barrier() {
        if (threads_ > 1) barrier_.wait();
    }

  private:
    void work(int index);

    const int threads_;
    Barrier barrier_;
    const std::function<void(int)>* job_ = nullptr;
    std::atomic<uint64_t> generation_{0};
    std::atomic<bool> stopping_{false};
    std::mutex mutex_;
    std::condition_variable wake_;
    std::vector<std::thread> workers_;
};

}  // namespace rwkv
