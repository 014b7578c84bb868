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
        ("no kernel here for a size of " + std::to_string(size) +
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

using In = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using Out = nb::ndarray<float, nb::c_contig, nb::device::cpu>;
using Any = nb::ndarray<nb::c_contig, nb::device::cpu>;

Either either(const char* name, const Any& array, size_t count) {
    const bool narrow = array.dtype().code == static_cast<uint8_t>(nb::dlpack::dtype_code::Bfloat);
    if (!narrow && array.dtype() != nb::dtype<float>())
        throw nb::type_error((std::string(name) + " must be of floats or bfloat16").c_str());
    if (array.size() != count)
        throw nb::value_error(
            (std::string(name) + " must hold " + std::to_string(count) + " values").c_str());
    return {const_cast<void*>(static_cast<const void*>(array.data())), narrow};
}

Mix mixing(const In& x, const In& last, const In& mix, const std::vector<Any>& arrays,
           Either* found) {
    if (x.ndim() != 3) throw nb::value_error("x must have three dimensions");
    const auto batch = static_cast<int64_t>(x.shape(0)), time = static_cast<int64_t>(x.shape(1)),
               width = static_cast<int64_t>(x.shape(2)), mixes = static_cast<int64_t>(arrays.size());
    if (mixes == 0 || mixes > kMixes || time == 0)
        throw nb::value_error("one to six mixes of one step or more");
    if (last.ndim() != 2 || mix.ndim() != 2)
        throw nb::value_error("last and mix must have two dimensions");
    expect("last", last, {batch, width});
    expect("mix", mix, {mixes, width});
    for (size_t i = 0; i < arrays.size(); ++i) {
        found[i] = either("out", arrays[i], x.size());
        if (found[i].narrow != found[0].narrow) throw nb::type_error("out must be of one type");
    }
    return {batch, time, width, mixes, x.data(), last.data(), mix.data()};
}

void mix(const In& x, const In& last, const In& weights, const std::vector<Any>& out,
         const std::string& isa) {
    Either to[kMixes];
    const Mix p = mixing(x, last, weights, out, to);
    const Kernels& kernels = table(p.width, isa);
    nb::gil_scoped_release release;
    kernels.mix_forward(p, to);
}

void mix_gradient(const In& x, const In& last, const In& weights, const std::vector<Any>& dout,
                  const Out& dx, const Out& dlast, const Out& dmix, const std::string& isa) {
    Either from[kMixes];
    const Mix p = mixing(x, last, weights, dout, from);
    if (dx.size() != x.size() || dlast.size() != last.size() || dmix.size() != weights.size())
        throw nb::value_error("gradients must be as large as what they are of");
    const Kernels& kernels = table(p.width, isa);
    nb::gil_scoped_release release;
    kernels.mix_backward(p, from, dx.data(), dlast.data(), dmix.data());
}

void relu_square(const Any& x, const Any& y, const std::string& isa) {
    const Either from = either("x", x, x.size()), to = either("y", y, x.size());
    if (from.narrow != to.narrow) throw nb::type_error("x and y must be of one type");
    const auto count = static_cast<int64_t>(x.size());
    const Kernels& kernels = table(count, isa);
    nb::gil_scoped_release release;
    kernels.relu_square_forward(count, from, to);
}

void relu_square_gradient(const Any& x, const Any& dy, const Any& dx, const std::string& isa) {
    const Either from = either("x", x, x.size()), gradient = either("dy", dy, x.size()),
                 to = either("dx", dx, x.size());
    if (from.narrow != to.narrow || from.narrow != gradient.narrow)
        throw nb::type_error("x, dy and dx must be of one type");
    const auto count = static_cast<int64_t>(x.size());
    const Kernels& kernels = table(count, isa);
    nb::gil_scoped_release release;
    kernels.relu_square_backward(count, from, gradient, to);
}

Operands operands_of(const In4& k, const In4& w, const In4& a, const In& vectors, float scale) {
    const auto batch = static_cast<int64_t>(k.shape(0)), time = static_cast<int64_t>(k.shape(1)),
               heads = static_cast<int64_t>(k.shape(2)), size = static_cast<int64_t>(k.shape(3));
    expect("w", w, {batch, time, heads, size});
    expect("a", a, {batch, time, heads, size});
    if (vectors.ndim() != 2) throw nb::value_error("vectors must have two dimensions");
    expect("vectors", vectors, {4, heads * size});
    return {batch * time, heads, size, scale, k.data(), w.data(), a.data(), vectors.data()};
}

void same_shape(const In4& like, std::initializer_list<const Out4*> others) {
    for (const Out4* const other : others)
        for (size_t i = 0; i < 4; ++i)
            if (other->shape(i) != like.shape(i)) throw nb::value_error("results must be like k");
}

void operands(const In4& k, const In4& w, const In4& a, const In& vectors, float scale,
              const Out4& log_w, const Out4& key, const Out4& removed, const Out4& added,
              const std::string& isa) {
    const Operands p = operands_of(k, w, a, vectors, scale);
    same_shape(k, {&log_w, &key, &removed, &added});
    const Kernels& kernels = table(p.size, isa);
    float* const out[4] = {log_w.data(), key.data(), removed.data(), added.data()};
    nb::gil_scoped_release release;
    kernels.operands_forward(p, out);
}

void operands_gradient(const In4& k, const In4& w, const In4& a, const In& vectors, float scale,
                       const In4& dlog_w, const In4& dkey, const In4& dremoved,
                       const In4& dadded, const Out4& dk, const Out4& dw, const Out4& da,
                       const Out& dvectors, const std::string& isa) {
    const Operands p = operands_of(k, w, a, vectors, scale);
    same_shape(k, {&dk, &dw, &da});
    for (const In4* const one : {&dlog_w, &dkey, &dremoved, &dadded})
        if (one->size() != k.size()) throw nb::value_error("gradients must be like k");
    if (dvectors.size() != vectors.size()) throw nb::value_error("dvectors must be like vectors");
    const Kernels& kernels = table(p.size, isa);
    const float* const dout[4] = {dlog_w.data(), dkey.data(), dremoved.data(), dadded.data()};
    float* const d[3] = {dk.data(), dw.data(), da.data()};
    nb::gil_scoped_release release;
    kernels.operands_backward(p, dout, d, dvectors.data());
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
    m.def("mix_forward", &mix, "x"_a, "last"_a, "mix"_a, "out"_a, "isa"_a = "");
    m.def("mix_backward", &mix_gradient, "x"_a, "last"_a, "mix"_a, "dout"_a, "dx"_a, "dlast"_a,
          "dmix"_a, "isa"_a = "");
    m.def("relu_square_forward", &relu_square, "x"_a, "y"_a, "isa"_a = "");
    m.def("relu_square_backward", &relu_square_gradient, "x"_a, "dy"_a, "dx"_a, "isa"_a = "");
    m.def("operands_forward", &operands, "k"_a, "w"_a, "a"_a, "vectors"_a, "scale"_a, "log_w"_a,
          "key"_a, "removed"_a, "added"_a, "isa"_a = "");
    m.def("operands_backward", &operands_gradient, "k"_a, "w"_a, "a"_a, "vectors"_a, "scale"_a,
          "dlog_w"_a, "dkey"_a, "dremoved"_a, "dadded"_a, "dk"_a, "dw"_a, "da"_a, "dvectors"_a,
          "isa"_a = "");
}
