// The Python module lambda_inference._native.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "bandwidth.h"
#include "cpu_limit.h"
#include "engine.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace rwkv {
namespace {

// Buffers of states come and go once a token; taking megabytes from the kernel
// and giving them back each time costs more than filling them. As many are kept
// as the last step had sequences, and two.
class StatePool {
  public:
    explicit StatePool(int64_t floats) : floats_(floats) {}

    Buffer<float> take() {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            if (!free_.empty()) {
                Buffer<float> buffer = std::move(free_.back());
                free_.pop_back();
                return buffer;
            }
        }
        Buffer<float> buffer;
        buffer.resize(floats_);
        return buffer;
    }

    void give(Buffer<float> buffer) {
        std::lock_guard<std::mutex> lock(mutex_);
        if (free_.size() < kept_) free_.push_back(std::move(buffer));
    }

    void expect(size_t sequences) {
        std::lock_guard<std::mutex> lock(mutex_);
        kept_ = sequences + 2;
        if (free_.size() > kept_) free_.erase(free_.begin() + kept_, free_.end());
    }

    int64_t floats() const { return floats_; }

  private:
    const int64_t floats_;
    size_t kept_ = 2;
    std::mutex mutex_;
    std::vector<Buffer<float>> free_;
};

// Immutable once Python sees it: forward() makes a new one.
class State {
  public:
    explicit State(std::shared_ptr<StatePool> pool) : pool_(std::move(pool)), data_(pool_->take()) {}
    ~State() { pool_->give(std::move(data_)); }
    State(const State&) = delete;
    State& operator=(const State&) = delete;

    float* data() { return data_.data(); }
    const float* data() const { return data_.data(); }
    size_t bytes() const { return static_cast<size_t>(pool_->floats()) * sizeof(float); }
    const StatePool* pool() const { return pool_.get(); }
    std::shared_ptr<State> copy() const {
        auto state = std::make_shared<State>(pool_);
        std::memcpy(state->data(), data(), bytes());
        return state;
    }

  private:
    std::shared_ptr<StatePool> pool_;
    Buffer<float> data_;
};

class Session {
  public:
    Session(const std::string& path, int threads)
        : engine_(path, threads),
          pool_(std::make_shared<StatePool>(engine_.model().state_floats())) {}

    const Engine& engine() const { return engine_; }

    std::shared_ptr<State> new_state() const {
        auto state = std::make_shared<State>(pool_);
        engine_.initial_state(state->data());
        return state;
    }

    std::shared_ptr<State> state_from_floats(nb::bytes bytes) const {
        auto state = std::make_shared<State>(pool_);
        if (bytes.size() != state->bytes())
            throw nb::value_error(("A state of this model has " + std::to_string(state->bytes()) +
                                   " bytes, not " + std::to_string(bytes.size()) + ".")
                                      .c_str());
        std::memcpy(state->data(), bytes.c_str(), bytes.size());
        return state;
    }

    // Logits [vocab] after the last token; with `each` [tokens, vocab], after every one.
    nb::tuple forward(const std::vector<int64_t>& tokens, const State* before, bool each) {
        Batch batch(*this, {tokens}, {before});
        const auto rows = each ? tokens.size() : 1;
        auto logits = new_logits(rows);
        {
            nb::gil_scoped_release release;
            batch.begin(engine_);
            engine_.forward(batch.sequences[0], logits.get(), each);
        }
        const size_t shape[2] = {rows, static_cast<size_t>(engine_.model().vocab)};
        return nb::make_tuple(as_array(std::move(logits), each ? 2 : 1, each ? shape : shape + 1),
                              batch.after[0]);
    }

    // Logits [sequences, vocab], a row after the last token of each.
    nb::tuple forward_batch(const std::vector<std::vector<int64_t>>& tokens,
                            const std::vector<const State*>& before) {
        if (tokens.size() != before.size())
            throw nb::value_error("forward_batch() needs as many states as sequences.");
        Batch batch(*this, tokens, before);
        auto logits = new_logits(tokens.size());
        {
            nb::gil_scoped_release release;
            batch.begin(engine_);
            engine_.forward_batch(batch.sequences.data(),
                                  static_cast<int64_t>(batch.sequences.size()), logits.get());
        }
        const size_t shape[2] = {tokens.size(), static_cast<size_t>(engine_.model().vocab)};
        return nb::make_tuple(as_array(std::move(logits), 2, shape), batch.after);
    }

  private:
    // Checked tokens, and new states to write to.
    struct Batch {
        Batch(const Session& session, const std::vector<std::vector<int64_t>>& tokens,
              const std::vector<const State*>& before) {
            const int64_t vocab = session.engine_.model().vocab;
            for (size_t i = 0; i < tokens.size(); ++i) {
                if (tokens[i].empty()) throw nb::value_error("forward() needs at least one token.");
                if (before[i] != nullptr && before[i]->pool() != session.pool_.get())
                    throw nb::value_error("The state belongs to another engine.");
                auto& own = ids.emplace_back();
                own.reserve(tokens[i].size());
                for (const int64_t token : tokens[i]) {
                    if (token < 0 || token >= vocab)
                        throw nb::value_error(("Token " + std::to_string(token) +
                                               " is outside the vocabulary of " +
                                               std::to_string(vocab) + ".")
                                                  .c_str());
                    own.push_back(static_cast<int32_t>(token));
                }
            }
            session.pool_->expect(tokens.size());
            for (size_t i = 0; i < tokens.size(); ++i) {
                const auto& state = after.emplace_back(std::make_shared<State>(session.pool_));
                sequences.push_back({ids[i].data(), static_cast<int64_t>(ids[i].size()),
                                     before[i] == nullptr ? state->data() : before[i]->data(),
                                     state->data()});
            }
        }

        // Fills the states that begin anew; needs no GIL.
        void begin(const Engine& engine) const {
            for (const Sequence& one : sequences)
                if (one.before == one.after) engine.initial_state(one.after);
        }

        std::vector<std::vector<int32_t>> ids;
        std::vector<std::shared_ptr<State>> after;
        std::vector<Sequence> sequences;
    };

    std::unique_ptr<float[]> new_logits(size_t rows) const {
        // Not make_unique: it would fill with zeros what is about to be written.
        return std::unique_ptr<float[]>(
            new float[rows * static_cast<size_t>(engine_.model().vocab)]);
    }

    static nb::ndarray<nb::numpy, float> as_array(std::unique_ptr<float[]> logits, size_t rank,
                                                  const size_t* shape) {
        float* values = logits.release();
        nb::capsule owner(values, [](void* p) noexcept { delete[] static_cast<float*>(p); });
        return {values, rank, shape, owner};
    }

    Engine engine_;
    std::shared_ptr<StatePool> pool_;
};

}  // namespace
}  // namespace rwkv

NB_MODULE(_native, m) {
    using namespace rwkv;
    nb::set_leak_warnings(false);  // A process may end while a thread holds a state.
    nb::exception<ModelFileError>(m, "ModelFileError", PyExc_ValueError);

    nb::class_<State>(m, "State")
        .def("copy", &State::copy)
        .def_prop_ro("nbytes", &State::bytes)
        .def("floats", [](const State& s) {
            return nb::bytes(reinterpret_cast<const char*>(s.data()), s.bytes());
        });

    nb::class_<Session>(m, "Session")
        .def(nb::init<const std::string&, int>(), "path"_a, "threads"_a)
        .def("new_state", &Session::new_state)
        .def("state_from_floats", &Session::state_from_floats, "data"_a)
        .def("forward", &Session::forward, "tokens"_a, "state"_a.none(), "each"_a = false)
        .def("forward_batch", &Session::forward_batch, "tokens"_a, "states"_a)
        .def_prop_ro("generation", [](const Session& s) { return s.engine().model().generation; })
        .def_prop_ro("layers", [](const Session& s) { return s.engine().model().layers; })
        .def_prop_ro("width", [](const Session& s) { return s.engine().model().width; })
        .def_prop_ro("head_size", [](const Session& s) { return s.engine().model().head_size; })
        .def_prop_ro("vocab_size", [](const Session& s) { return s.engine().model().vocab; })
        .def_prop_ro("bytes_per_token",
                     [](const Session& s) { return s.engine().model().bytes_per_token; })
        .def_prop_ro("threads", [](const Session& s) { return s.engine().threads(); })
        .def_prop_ro("isa", [](const Session& s) { return std::string(s.engine().kernels().name); });

    m.def(
        "read_bandwidth",
        [](int threads, int64_t bytes, int passes) {
            nb::gil_scoped_release release;
            return read_bandwidth(threads, bytes, passes);
        },
        "threads"_a, "bytes"_a, "passes"_a);
    m.def("cpu_limit", &cpu_limit, "root"_a = "");
    m.def("supported_isas", [] {
        std::vector<std::string> names;
        for (const Kernels* const* k = supported_kernels(); *k != nullptr; ++k)
            names.emplace_back((*k)->name);
        return names;
    });
}
