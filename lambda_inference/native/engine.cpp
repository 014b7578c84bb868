// One function runs on every thread of the pool, layer after layer, with a
// barrier where a step reads what another thread wrote. Within a step each
// thread goes through its own share of the units from front to back, so that it
// streams weights from one place, and then helps the others with theirs: on a
// machine that is busy with other things somebody is always late.
#include "engine.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "cpu_limit.h"

namespace rwkv {
namespace {

constexpr int64_t kUnitBytes = 272 * 1024;  // of weights claimed at once when decoding
constexpr int64_t kSegment = 1024;          // elements of a row claimed at once
constexpr int kStepsPerLayer = 20;
// Weights times tokens that one thread does faster than several can agree on.
constexpr int64_t kAloneBytes = 16 * 1024 * 1024;

struct alignas(64) Counter {
    std::atomic<int64_t> next{0};
};

}  // namespace

void Turnstile::enter() {
    std::unique_lock<std::mutex> lock(mutex_);
    const uint64_t ticket = tickets_++;
    next_.wait(lock, [&] { return serving_ == ticket; });
}

void Turnstile::leave() {
    {
        std::lock_guard<std::mutex> lock(mutex_);
        ++serving_;
    }
    next_.notify_all();
}

void ActivationRows::resize(int64_t rows, int64_t length) {
    k = length;
    const int64_t groups = (length + kGroup - 1) / kGroup;
    f.resize(rows * length);
    q.resize(rows * length);
    d.resize(rows * groups);
    s.resize(rows * groups);
}

void ActivationRows::quantize(const Kernels& kernels, int64_t t, int64_t c, int64_t n) {
    const int64_t g = (t * k + c) / kGroup;  // k is a multiple of 32 where this is called
    kernels.quantize(f.data() + t * k + c, n, q.data() + t * k + c, d.data() + g, s.data() + g);
}

Activations ActivationRows::from(int64_t t) const {
    const int64_t g = t * k / kGroup;
    return {f.data() + t * k, q.data() + t * k, d.data() + g, s.data() + g, k};
}

struct Engine::Worker {
    int index;
    int threads;
    int step;
    void* scratch;
};

// A sequence's share of a chunk: rows [first, first + count) of the activations.
struct Engine::Part {
    const int32_t* tokens;
    int64_t first;
    int64_t count;
    int64_t wanted;  // logits of this many tokens, the part's last ones
    const float* before;
    float* after;
};

// What one pass over the weights computes.
struct Engine::Chunk {
    Part parts[kMaxTokens];
    int64_t count;               // of parts
    int64_t rows;                // of activations, a token each
    int64_t wanted;              // rows of logits
    float* logits;               // [wanted, vocab], in the order of the parts
    int64_t skipped;             // rows at the front that the last layer need not finish
    int part_of[kMaxTokens];     // by row
    int64_t row_of[kMaxTokens];  // of the activations, by row of the logits

    void clear(float* to) {
        count = rows = wanted = 0;
        logits = to;
    }

    void add(const Part& part) {
        parts[count++] = part;
        rows += part.count;
        wanted += part.wanted;
    }

    // Lays the parts out. The one that has most tokens whose logits nobody asked
    // for comes first, so that those are a range that the last layer can leave
    // out: all but the last token, for the sake of the state.
    void arrange() {
        const auto spare = [](const Part& p) { return p.count - std::max<int64_t>(1, p.wanted); };
        Part* const front = std::max_element(
            parts, parts + count,
            [&](const Part& a, const Part& b) { return spare(a) < spare(b); });
        skipped = spare(*front);
        int64_t row = front->count, out = 0;
        for (int64_t i = 0; i < count; ++i) {
            Part& part = parts[i];
            part.first = &part == front ? 0 : row;
            if (&part != front) row += part.count;
            std::fill_n(part_of + part.first, part.count, static_cast<int>(i));
            for (int64_t t = part.count - part.wanted; t < part.count; ++t)
                row_of[out++] = part.first + t;
        }
    }
};

struct Engine::Product {
    const Matrix* matrix;
    const ActivationRows* x;
    float* y;
    int64_t ldy;
};

struct Engine::Shared {
    explicit Shared(const Model& m, int threads)
        : counters(static_cast<size_t>((m.layers + 1) * kStepsPerLayer * threads)),
          scratch(static_cast<size_t>(threads)) {
        for (auto& bytes : scratch) bytes.resize(static_cast<int64_t>(kScratchBytes));
        const int64_t width = m.width;
        const int mixes = m.generation == 7 ? 6 : 3;
        for (int i = 0; i < mixes; ++i) mixed[i].resize(kMaxTokens, width);
        for (Buffer<float>* rows : {&x, &normed, &delta, &r, &k, &v})
            rows->resize(kMaxTokens * width);
        out.resize(kMaxTokens, width);
        hidden.resize(kMaxTokens, m.ffn_width);
        if (m.generation != 7) return;
        for (Buffer<float>* rows : {&w, &a, &g, &v_mix, &v_first})
            rows->resize(kMaxTokens * width);
        for (auto& rows : low) rows.resize(kMaxTokens, m.lora_rank);
    }

    Chunk chunk;
    std::vector<Counter> counters;
    std::vector<Buffer<char>> scratch;
    ActivationRows mixed[6], out, hidden;
    ActivationRows low[4];  // w, a, g, v: rank floats a token
    Buffer<float> x, normed, delta, r, k, v;
    Buffer<float> w, a, g, v_mix, v_first;
};

Engine::Engine(const std::string& path, int threads)
    : model_(path), kernels_(choose_kernels()), threads_(threads < 1 ? cpu_limit() : threads) {}

Engine::~Engine() {
    // After a fork the threads exist only in the parent: joining them hangs.
    if (owner_.load() != getpid()) (void)pool_.release();
}

void Engine::initial_state(float* state) const {
    std::fill(state, state + model_.state_floats(), 0.0f);
    if (model_.generation != 4) return;
    for (int64_t i = 0; i < model_.layers; ++i) {
        float* pp = state + (i * 5 + 4) * model_.width;
        std::fill(pp, pp + model_.width, -1e30f);
    }
}

// Threads are made by the first forward, so that a process may load a model
// and fork, and once more by the first one after a fork.
void Engine::start() {
    if (owner_.load(std::memory_order_acquire) == getpid()) return;
    static std::mutex mutex;
    std::lock_guard<std::mutex> lock(mutex);
    if (owner_.load() == getpid()) return;
    // A parent's threads and locks cannot be taken down in its child.
    (void)pool_.release();
    (void)turn_.release();
    turn_ = std::make_unique<Turnstile>();
    shared_ = std::make_unique<Shared>(model_, threads_);
    pool_ = std::make_unique<ThreadPool>(threads_);
    owner_.store(getpid(), std::memory_order_release);
}

void Engine::forward(const Sequence& sequence, float* logits, bool each) {
    run(&sequence, 1, logits, each);
}

void Engine::forward_batch(const Sequence* sequences, int64_t count, float* logits) {
    run(sequences, count, logits, false);
}

// Fills chunk after chunk with the sequences in their order, so that the logits
// of a chunk are consecutive rows; a long sequence goes on in the next chunk.
void Engine::run(const Sequence* sequences, int64_t count, float* logits, bool each) {
    model_.file().check_length();
    start();
    for (int64_t at = 0, done = 0; at < count;) {
        turn_->enter();
        Chunk& chunk = shared_->chunk;
        chunk.clear(logits);
        while (at < count && chunk.rows < kMaxTokens) {
            const Sequence& one = sequences[at];
            const int64_t taken = std::min(kMaxTokens - chunk.rows, one.count - done);
            const bool last = done + taken == one.count;
            chunk.add({one.tokens + done, 0, taken, each ? taken : last ? 1 : 0,
                       done == 0 ? one.before : one.after, one.after});
            done = last ? 0 : done + taken;
            at += last ? 1 : 0;
        }
        chunk.arrange();
        logits += chunk.wanted * model_.vocab;
        for (auto& counter : shared_->counters) counter.next.store(0, std::memory_order_relaxed);
        const bool alone =
            threads_ == 1 || model_.bytes_per_token * chunk.rows < kAloneBytes;
        const auto job = [&, this](int index) {
            Worker worker{index, alone ? 1 : threads_, 0,
                          shared_->scratch[static_cast<size_t>(index)].data()};
            run_chunk(worker);
        };
        if (alone)
            job(0);
        else
            pool_->run(job);
        turn_->leave();
    }
}

void Engine::barrier(Worker& w) {
    if (w.threads > 1) pool_->barrier();
}

template <typename F>
void Engine::units(Worker& w, int64_t count, F f) {
    if (w.threads == 1) {
        for (int64_t i = 0; i < count; ++i) f(i);
        return;
    }
    Counter* const claimed = shared_->counters.data() + w.step++ * w.threads;
    for (int turn = 0; turn < w.threads; ++turn) {
        const int owner = (w.index + turn) % w.threads;
        const int64_t end = count * (owner + 1) / w.threads;
        const int64_t start = count * owner / w.threads;
        auto& next = claimed[owner].next;
        for (int64_t i; (i = start + next.fetch_add(1, std::memory_order_relaxed)) < end;) f(i);
    }
}

// Rows [t0, t1) of y = x W^T for several matrices at once.
void Engine::multiply(Worker& w, const Product* products, int count, int64_t t0, int64_t t1) {
    const int64_t tokens = t1 - t0;
    int64_t rows_of[8], first[9] = {0};
    for (int i = 0; i < count; ++i) {
        const Matrix& m = *products[i].matrix;
        // A quarter of a thread's part, within what suits the kernel, in equal units.
        const int64_t quarter = m.rows / (w.threads * 4);
        const bool tiles = tokens >= kernels_.gemm_from[m.slot];
        const int64_t most = std::max(
            kTileRows, std::min(quarter, tiles ? kGemmRows : kUnitBytes / m.stride));
        const int64_t units = (m.rows + most - 1) / most;
        const int64_t rows = (m.rows + units * kTileRows - 1) / (units * kTileRows) * kTileRows;
        rows_of[i] = rows;
        first[i + 1] = first[i] + (m.rows + rows - 1) / rows;
    }
    int at = 0;
    units(w, first[count], [&](int64_t unit) {
        while (unit >= first[at + 1]) ++at;
        while (unit < first[at]) --at;
        const Product& p = products[at];
        const Matrix& m = *p.matrix;
        const int64_t row = (unit - first[at]) * rows_of[at];
        const int64_t rows = std::min(rows_of[at], m.rows - row);
        const uint8_t* weights = m.data + row * m.stride;
        float* y = p.y + t0 * p.ldy + row;
        const Activations x = p.x->from(t0);
        if (tokens == 1)
            kernels_.matvec[m.slot](weights, rows, x, y);
        else if (tokens < kernels_.gemm_from[m.slot])
            kernels_.columns[m.slot](weights, rows, x, tokens, y, p.ldy);
        else
            kernels_.gemm[m.slot](weights, rows, x, tokens, y, p.ldy, w.scratch);
    });
}

void Engine::embed(Worker& w) {
    const int64_t n = model_.width;
    const Chunk& chunk = shared_->chunk;
    units(w, chunk.rows, [&](int64_t t) {
        const Matrix& e = model_.embedding;
        const Part& part = chunk.parts[chunk.part_of[t]];
        float* row = shared_->normed.data() + t * n;
        kernels_.dequantize[e.slot](e.data + part.tokens[t - part.first] * e.stride, n, row);
        kernels_.layer_norm(row, model_.norm_in.weight, model_.norm_in.bias, n, model_.epsilon,
                            shared_->x.data() + t * n);
    });
    barrier(w);
}

void Engine::norm_rows(Worker& w, const Norm& norm) {
    const int64_t n = model_.width;
    units(w, shared_->chunk.rows, [&](int64_t t) {
        kernels_.layer_norm(shared_->x.data() + t * n, norm.weight, norm.bias, n, model_.epsilon,
                            shared_->normed.data() + t * n);
    });
    barrier(w);
}

// mixed[m] = normed, leaning towards the token before by mixes[m]. Where a part
// begins, that is the shift at `state` in the state.
void Engine::mix_rows(Worker& w, const float* const* mixes, int count, const bool* quantize,
                      int64_t state, int64_t t0) {
    const int64_t n = model_.width;
    const Chunk& chunk = shared_->chunk;
    units(w, (chunk.rows - t0) * count, [&](int64_t unit) {
        const int64_t t = t0 + unit / count;
        const int64_t m = unit % count;
        const Part& part = chunk.parts[chunk.part_of[t]];
        const float* now = shared_->normed.data() + t * n;
        auto& rows = shared_->mixed[m];
        kernels_.lerp(now, t == part.first ? part.before + state : now - n, mixes[m], n,
                      rows.row(t));
        if (quantize[m]) rows.quantize(kernels_, t, 0, n);
    });
    barrier(w);
}

// Each part's last token is the shift of its next one.
void Engine::keep_shift(Worker& w, int64_t state) {
    if (w.index != 0) return;
    const int64_t n = model_.width;
    const Chunk& chunk = shared_->chunk;
    for (int64_t i = 0; i < chunk.count; ++i) {
        const Part& part = chunk.parts[i];
        std::memcpy(part.after + state,
                    shared_->normed.data() + (part.first + part.count - 1) * n,
                    static_cast<size_t>(n) * 4);
    }
}

void Engine::quantize_output(Worker& w, const Layer& layer, int64_t t0) {
    if (!layer.output.quantized()) return;
    units(w, shared_->chunk.rows - t0, [&](int64_t i) {
        shared_->out.quantize(kernels_, t0 + i, 0, model_.width);
    });
    barrier(w);
}

// State of a layer: shift of the time mixing, shift of the channel mixing, aa,
// bb, pp; width floats each.
void Engine::time_mix4(Worker& w, const Layer& layer, int64_t state, int64_t t0) {
    auto& s = *shared_;
    const Chunk& chunk = s.chunk;
    const int64_t n = model_.width;
    norm_rows(w, layer.norm1);
    const bool quantize[] = {layer.key.quantized(), layer.value.quantized(),
                             layer.receptance.quantized()};
    mix_rows(w, layer.mix, 3, quantize, state, 0);
    keep_shift(w, state);
    const Product in[] = {{&layer.key, &s.mixed[0], s.k.data(), n},
                          {&layer.value, &s.mixed[1], s.v.data(), n},
                          {&layer.receptance, &s.mixed[2], s.r.data(), n}};
    multiply(w, in, 3, 0, chunk.rows);
    barrier(w);
    constexpr int64_t kChannels = 128;
    const int64_t blocks = (n + kChannels - 1) / kChannels;
    units(w, chunk.count * blocks, [&](int64_t unit) {
        const Part& part = chunk.parts[unit / blocks];
        const int64_t at = part.first * n, c = unit % blocks * kChannels;
        const float* before = part.before + state + 2 * n;
        float* after = part.after + state + 2 * n;
        const Wkv4 wkv{s.k.data() + at, s.v.data() + at, s.r.data() + at, s.out.row(part.first),
                       layer.decay, layer.first, before, before + n, before + 2 * n,
                       after, after + n, after + 2 * n, n, part.count};
        kernels_.wkv4(wkv, c, std::min(n, c + kChannels));
    });
    barrier(w);
    quantize_output(w, layer, t0);
    const Product out[] = {{&layer.output, &s.out, s.delta.data(), n}};
    multiply(w, out, 1, t0, chunk.rows);
    barrier(w);
}

// State of a layer: shift of the time mixing, shift of the channel mixing,
// width floats each; then a [key, value] matrix a head.
void Engine::time_mix7(Worker& w, const Layer& layer, bool first, int64_t state, int64_t t0) {
    auto& s = *shared_;
    const Chunk& chunk = s.chunk;
    const int64_t n = model_.width;
    norm_rows(w, layer.norm1);
    const bool quantize[] = {layer.receptance.quantized(), layer.w1.quantized(),
                             layer.key.quantized(), layer.value.quantized() ||
                             (!first && layer.v1.quantized()),
                             layer.a1.quantized(), layer.g1.quantized()};
    mix_rows(w, layer.mix, 6, quantize, state, 0);
    keep_shift(w, state);

    float* v = first ? s.v_first.data() : s.v.data();
    const int ranks = first ? 3 : 4;
    const Matrix* down[] = {&layer.w1, &layer.a1, &layer.g1, &layer.v1};
    const Matrix* up[] = {&layer.w2, &layer.a2, &layer.g2, &layer.v2};
    const int source[] = {1, 4, 5, 3};
    float* lifted[] = {s.w.data(), s.a.data(), s.g.data(), s.v_mix.data()};
    Product in[7] = {{&layer.receptance, &s.mixed[0], s.r.data(), n},
                     {&layer.key, &s.mixed[2], s.k.data(), n},
                     {&layer.value, &s.mixed[3], v, n}};
    ActivationRows* low = s.low;
    if (w.index == 0)
        for (int i = 0; i < ranks; ++i) low[i].k = down[i]->rows;
    for (int i = 0; i < ranks; ++i)
        in[3 + i] = {down[i], &s.mixed[source[i]], low[i].f.data(), down[i]->rows};
    multiply(w, in, 3 + ranks, 0, chunk.rows);
    barrier(w);

    units(w, chunk.rows * ranks, [&](int64_t unit) {
        const int64_t t = unit / ranks;
        const int64_t i = unit % ranks;
        float* row = low[i].row(t);
        if (i == 0) kernels_.tanh(row, low[i].k);
        if (i == 2) kernels_.sigmoid(row, low[i].k);
        if (up[i]->quantized()) low[i].quantize(kernels_, t, 0, low[i].k);
    });
    barrier(w);
    Product lift[4];
    for (int i = 0; i < ranks; ++i) lift[i] = {up[i], &low[i], lifted[i], n};
    multiply(w, lift, ranks, 0, chunk.rows);
    barrier(w);

    const int64_t heads = n / model_.head_size;
    units(w, chunk.count * heads, [&](int64_t unit) {
        const Part& part = chunk.parts[unit / heads];
        const int64_t at = part.first * n;
        const Wkv7 wkv{s.r.data() + at, s.w.data() + at, s.k.data() + at, v + at, s.a.data() + at,
                       first ? nullptr : s.v_mix.data() + at,
                       first ? nullptr : s.v_first.data() + at,
                       s.g.data() + at, s.out.row(part.first), layer.w0, layer.a0, layer.v0,
                       layer.k_k, layer.k_a, layer.r_k, layer.head_norm.weight,
                       layer.head_norm.bias, part.before + state + 2 * n,
                       part.after + state + 2 * n, n, part.count, model_.head_size};
        kernels_.wkv7(wkv, unit % heads);
    });
    barrier(w);
    quantize_output(w, layer, t0);
    const Product out[] = {{&layer.output, &s.out, s.delta.data(), n}};
    multiply(w, out, 1, t0, chunk.rows);
    barrier(w);
}

// Tokens from t0 on; the norm also covers t0 - 1 where the shift needs it.
void Engine::feed_forward(Worker& w, const Layer& layer, int64_t state, int64_t t0) {
    auto& s = *shared_;
    const int64_t rows = s.chunk.rows;
    const int64_t n = model_.width;
    const float* mixes[] = {layer.ffn_mix_k, layer.ffn_mix_r};
    const bool gated = model_.generation == 4;
    const bool quantize[] = {layer.ffn_key.quantized(),
                             gated && layer.ffn_receptance.quantized()};
    mix_rows(w, mixes, gated ? 2 : 1, quantize, state, t0);
    keep_shift(w, state);
    const int64_t f = model_.ffn_width;
    const Product in[] = {{&layer.ffn_key, &s.mixed[0], s.hidden.row(0), f},
                          {&layer.ffn_receptance, &s.mixed[1], s.r.data(), n}};
    multiply(w, in, gated ? 2 : 1, t0, rows);
    barrier(w);
    const int64_t segments = (f + kSegment - 1) / kSegment;
    units(w, (rows - t0) * segments, [&](int64_t unit) {
        const int64_t t = t0 + unit / segments;
        const int64_t c = unit % segments * kSegment;
        const int64_t length = std::min(kSegment, f - c);
        kernels_.relu_square(s.hidden.row(t) + c, length);
        if (layer.ffn_value.quantized()) s.hidden.quantize(kernels_, t, c, length);
    });
    barrier(w);
    const Product out[] = {{&layer.ffn_value, &s.hidden, s.delta.data(), n}};
    multiply(w, out, 1, t0, rows);
    barrier(w);
    units(w, rows - t0, [&](int64_t i) {
        const int64_t at = (t0 + i) * n;
        if (gated)
            kernels_.add_gated(s.x.data() + at, s.r.data() + at, s.delta.data() + at, n);
        else
            kernels_.add(s.x.data() + at, s.delta.data() + at, n);
    });
    barrier(w);
}

void Engine::output(Worker& w) {
    auto& s = *shared_;
    const Chunk& chunk = s.chunk;
    const int64_t n = model_.width;
    units(w, chunk.wanted, [&](int64_t t) {
        kernels_.layer_norm(s.x.data() + chunk.row_of[t] * n, model_.norm_out.weight,
                            model_.norm_out.bias, n, model_.epsilon, s.out.row(t));
        if (model_.head.quantized()) s.out.quantize(kernels_, t, 0, n);
    });
    barrier(w);
    const Product head[] = {{&model_.head, &s.out, chunk.logits, model_.vocab}};
    multiply(w, head, 1, 0, chunk.wanted);
}

void Engine::run_chunk(Worker& w) {
    auto& s = *shared_;
    const Chunk& chunk = s.chunk;
    const int64_t n = model_.width;
    const int64_t stride = model_.state_floats() / model_.layers;
    embed(w);
    for (int64_t i = 0; i < model_.layers; ++i) {
        const Layer& layer = model_.blocks[static_cast<size_t>(i)];
        const int64_t state = i * stride;
        // After the last layer's recurrence only the rows behind the skipped ones
        // matter, and the one before them for the shift of the feed-forward part.
        const int64_t fed = i + 1 == model_.layers ? chunk.skipped : 0;
        const int64_t t0 = std::max<int64_t>(0, fed - 1);
        if (model_.generation == 7)
            time_mix7(w, layer, i == 0, state, t0);
        else
            time_mix4(w, layer, state, t0);
        units(w, chunk.rows - t0, [&](int64_t row) {
            const int64_t at = (t0 + row) * n;
            kernels_.add(s.x.data() + at, s.delta.data() + at, n);
            kernels_.layer_norm(s.x.data() + at, layer.norm2.weight, layer.norm2.bias, n,
                                model_.epsilon, s.normed.data() + at);
        });
        barrier(w);
        feed_forward(w, layer, state + n, fed);
    }
    if (chunk.wanted > 0) output(w);
}

}  // namespace rwkv
