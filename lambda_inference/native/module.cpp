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
// and giving them back each time costs more than filling them.
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
        if (free_.size() < kKept) free_.push_back(std::move(buffer));
    }

    int64_t floats() const { return floats_; }

  private:
    static constexpr size_t kKept = 2;
    const int64_t floats_;
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
        if (tokens.empty()) throw nb::value_error("forward() needs at least one token.");
        const int64_t vocab = engine_.model().vocab;
        std::vector<int32_t> ids;
        ids.reserve(tokens.size());
        for (const int64_t token : tokens) {
            if (token < 0 || token >= vocab)
                throw nb::value_error(("Token " + std::to_string(token) +
                                       " is outside the vocabulary of " + std::to_string(vocab) +
                                       ".")
                                          .c_str());
            ids.push_back(static_cast<int32_t>(token));
        }
        if (before != nullptr && before->pool() != pool_.get())
            throw nb::value_error("The state belongs to another engine.");
        auto after = std::make_shared<State>(pool_);
        const size_t rows = each ? tokens.size() : 1;
        // Not make_unique: it would fill with zeros what is about to be written.
        std::unique_ptr<float[]> logits(new float[rows * static_cast<size_t>(vocab)]);
        {
            nb::gil_scoped_release release;
            if (before == nullptr) engine_.initial_state(after->data());
            engine_.forward(ids.data(), static_cast<int64_t>(ids.size()),
                            before == nullptr ? after->data() : before->data(), after->data(),
                            logits.get(), each);
        }
        float* values = logits.release();
        nb::capsule owner(values, [](void* p) noexcept { delete[] static_cast<float*>(p); });
        const size_t shape[2] = {rows, static_cast<size_t>(vocab)};
        return nb::make_tuple(
            nb::ndarray<nb::numpy, float>(values, each ? 2 : 1, each ? shape : shape + 1, owner),
            after);
    }

  private:
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
