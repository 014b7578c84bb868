// The forward pass: tokens and a state in, logits and the next state out.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <vector>

#include "kernels.h"
#include "model.h"
#include "thread_pool.h"

namespace rwkv {

// Serves callers in the order they came, so that a long prompt (which takes
// the turn once a chunk) and a reply being decoded share the processor fairly.
class Turnstile {
  public:
    void enter();
    void leave();

  private:
    std::mutex mutex_;
    std::condition_variable next_;
    uint64_t tickets_ = 0;
    uint64_t serving_ = 0;
};

// Uninitialized memory on a cache line's border: the pages of a long prompt's
// rows are touched only when there is a long prompt.
template <typename T>
class Buffer {
  public:
    void resize(int64_t n) {
        const size_t bytes = (static_cast<size_t>(n) * sizeof(T) + 63) / 64 * 64;
        data_.reset(static_cast<T*>(std::aligned_alloc(64, bytes == 0 ? 64 : bytes)));
        if (data_ == nullptr) throw std::bad_alloc();
    }
    T* data() { return data_.get(); }
    const T* data() const { return data_.get(); }

  private:
    struct Free {
        void operator()(T* p) const { std::free(p); }
    };
    std::unique_ptr<T, Free> data_;
};

// Rows of activations and the int8 copy that quantized matrices read.
struct ActivationRows {
    Buffer<float> f;
    Buffer<int8_t> q;
    Buffer<float> d;
    Buffer<int32_t> s;
    int64_t k = 0;

    void resize(int64_t rows, int64_t length);
    float* row(int64_t t) { return f.data() + t * k; }
    // Quantizes columns [c, c + n) of row t.
    void quantize(const Kernels& kernels, int64_t t, int64_t c, int64_t n);
    Activations from(int64_t t) const;
};

// One of the sequences that a pass over the weights serves. `count` >= 1 tokens,
// each below the vocabulary's size; `before` is only read, may be shared with
// others and may be `after`, which is this sequence's own.
struct Sequence {
    const int32_t* tokens;
    int64_t count;
    const float* before;
    float* after;
};

class Engine {
  public:
    // threads < 1: as many as cpu_limit() says.
    Engine(const std::string& path, int threads);
    ~Engine();

    const Model& model() const { return model_; }
    const Kernels& kernels() const { return kernels_; }
    int threads() const { return threads_; }

    void initial_state(float* state) const;
    // `logits` is [vocab], after the last token; or, with `each`, [count, vocab],
    // a row after every token. Safe to call from several threads.
    void forward(const Sequence& sequence, float* logits, bool each = false);
    // The same for several sequences at once: the weights are read once for all.
    // `logits` is [count, vocab], a row after each sequence's last token. Every
    // row and state is, to the bit, what forward() gives for its sequence alone.
    void forward_batch(const Sequence* sequences, int64_t count, float* logits);

  private:
    struct Worker;
    struct Product;
    struct Part;
    struct Chunk;
    struct Shared;

    void start();
    void run(const Sequence* sequences, int64_t count, float* logits, bool each);
    void run_chunk(Worker& w);
    void embed(Worker& w);
    void norm_rows(Worker& w, const Norm& norm);
    void mix_rows(Worker& w, const float* const* mixes, int count, const bool* quantize,
                  int64_t state, int64_t t0);
    void keep_shift(Worker& w, int64_t state);
    void time_mix4(Worker& w, const Layer& layer, int64_t state, int64_t t0);
    void time_mix7(Worker& w, const Layer& layer, bool first, int64_t state, int64_t t0);
    void feed_forward(Worker& w, const Layer& layer, int64_t state, int64_t t0);
    void output(Worker& w);
    void multiply(Worker& w, const Product* products, int count, int64_t t0, int64_t t1);
    template <typename F>
    void units(Worker& w, int64_t count, F f);
    void barrier(Worker& w);
    void quantize_output(Worker& w, const Layer& layer, int64_t t0);

    Model model_;
    const Kernels& kernels_;
    const int threads_;
    std::atomic<pid_t> owner_{0};
    std::unique_ptr<ThreadPool> pool_;
    std::unique_ptr<Turnstile> turn_;
    std::unique_ptr<Shared> shared_;
};

}  // namespace rwkv
