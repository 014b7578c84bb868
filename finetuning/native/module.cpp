// The Python module finetuning._kernels: arrays of floats in, arrays of floats filled. Whoever
// calls makes the arrays; here their shapes are checked, and no copy is made.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "kernels.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace friend_kernels {
namespace {

using In4 = nb::ndarray<const float, nb::ndim<4>, nb::c_contig, nb::device::cpu>;
using Out4 = nb::ndarray<float, nb::ndim<4>, nb::c_contig, nb::device::cpu>;
using Out5 = nb::ndarray<float, nb::ndim<5>, nb::c_contig, nb::device::cpu>;
using In5 = nb::ndarray<const float, nb::ndim<5>, nb::c_contig, nb::device::cpu>;

template <class Array>
void expect(const char* name, const Array& array, std::initializer_list<int64_t> shape) {
    size_t i = 0;
    bool right = true;
    std::string wanted;
    for (const int64_t size : shape) {
        right = right && static_cast<int64_t>(array.shape(i++)) == size;
        wanted += (wanted.empty() ? "" : ", ") + std::to_string(size);
    }
    if (!right) throw nb::value_error((std::string(name) + " must be [" + wanted + "]").c_str());
}

// The best table for vectors that fit `size`, or the one named.
const Kernels& table(int64_t size, const std::string& isa) {
    for (const Kernels* const* one = supported_kernels(); *one != nullptr; ++one)
        if (size % (*one)->lanes == 0 && (isa.empty() || isa == (*one)->name)) return **one;
    throw nb::value_error(
        ("no kernel here for heads of " + std::to_string(size) +
         (isa.empty() ? std::string() : " with the instruction set '" + isa + "'"))
            .c_str());
}

Wkv7 problem(const In4& r, const In4& log_w, const In4& k, const In4& v, const In4& a,
             const In4& b, const In4* state) {
    const auto batch = static_cast<int64_t>(r.shape(0)), time = static_cast<int64_t>(r.shape(1)),
               heads = static_cast<int64_t>(r.shape(2)), size = static_cast<int64_t>(r.shape(3));
    const auto shape = {batch, time, heads, size};
    expect("log_w", log_w, shape);
    expect("k", k, shape);
    expect("v", v, shape);
    expect("a", a, shape);
    expect("b", b, shape);
    if (time == 0) throw nb::value_error("at least one step is needed");
    if (state != nullptr) expect("state", *state, {batch, heads, size, size});
    return {batch,    time,     heads,    size,     r.data(), log_w.data(),
            k.data(), v.data(), a.data(), b.data(), state == nullptr ? nullptr : state->data()};
}

void forward(const In4& r, const In4& log_w, const In4& k, const In4& v, const In4& a,
             const In4& b, const In4& state, const Out4& y, const Out4& last,
             const std::optional<Out4>& u, const std::optional<Out5>& kept,
             const std::string& isa) {
    const Wkv7 p = problem(r, log_w, k, v, a, b, &state);
    expect("y", y, {p.batch, p.time, p.heads, p.size});
    expect("last", last, {p.batch, p.heads, p.size, p.size});
    if (u.has_value() != kept.has_value()) throw nb::value_error("u and kept come together");
    if (u) {
        expect("u", *u, {p.batch, p.time, p.heads, p.size});
        expect("kept", *kept, {p.batch, p.heads, chunks(p.time), p.size, p.size});
    }
    const Kernels& kernels = table(p.size, isa);
    const Wkv7Results to{y.data(), last.data(), u ? u->data() : nullptr,
                         kept ? kept->data() : nullptr};
    nb::gil_scoped_release release;
    kernels.wkv7_forward(p, to);
}

void backward(const In4& r, const In4& log_w, const In4& k, const In4& v, const In4& a,
              const In4& b, const In4& u, const In5& kept, const In4& dy,
              const std::optional<In4>& dlast, const Out4& dr, const Out4& dlog_w, const Out4& dk,
              const Out4& dv, const Out4& da, const Out4& db, const Out4& dstate,
              const std::string& isa) {
    const Wkv7 p = problem(r, log_w, k, v, a, b, nullptr);
    const auto shape = {p.batch, p.time, p.heads, p.size};
    const auto square = {p.batch, p.heads, p.size, p.size};
    expect("u", u, shape);
    expect("kept", kept, {p.batch, p.heads, chunks(p.time), p.size, p.size});
    expect("dy", dy, shape);
    if (dlast) expect("dlast", *dlast, square);
    expect("dr", dr, shape);
    expect("dlog_w", dlog_w, shape);
    expect("dk", dk, shape);
    expect("dv", dv, shape);
    expect("da", da, shape);
    expect("db", db, shape);
    expect("dstate", dstate, square);
    const Kernels& kernels = table(p.size, isa);
    const Wkv7Gradients to{u.data(),  kept.data(), dy.data(), dlast ? dlast->data() : nullptr,
                           dr.data(), dlog_w.data(), dk.data(), dv.data(), da.data(), db.data(),
                           dstate.data()};
    nb::gil_scoped_release release;
    kernels.wkv7_backward(p, to);
}

}  // namespace
}  // namespace friend_kernels

NB_MODULE(_kernels, m) {
    using namespace friend_kernels;
    m.attr("CHUNK") = kChunk;
    m.def("supported_isas", [] {
        std::vector<std::string> names;
        for (const Kernels* const* one = supported_kernels(); *one != nullptr; ++one)
            names.emplace_back((*one)->name);
        return names;
    });
    m.def("wkv7_forward", &forward, "r"_a, "log_w"_a, "k"_a, "v"_a, "a"_a, "b"_a, "state"_a,
          "y"_a, "last"_a, "u"_a.none(), "kept"_a.none(), "isa"_a = "");
    m.def("wkv7_backward", &backward, "r"_a, "log_w"_a, "k"_a, "v"_a, "a"_a, "b"_a, "u"_a,
          "kept"_a, "dy"_a, "dlast"_a.none(), "dr"_a, "dlog_w"_a, "dk"_a, "dv"_a, "da"_a, "db"_a,
          "dstate"_a, "isa"_a = "");
}
