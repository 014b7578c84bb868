// Compares every table of kernels that this processor runs with the scalar one
// and, where there is one, with double precision. Stands alone, so that it also
// runs cross-compiled under qemu-user and under the sanitizers.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels.h"

using namespace rwkv;

namespace {

std::mt19937 rng(7);
int failures = 0;
int checks = 0;

void check(bool ok, const Kernels& k, const char* what, double got, double wanted) {
    ++checks;
    if (ok) return;
    ++failures;
    std::printf("FAIL %s %s: got %.9g, wanted %.9g\n", k.name, what, got, wanted);
}

std::vector<float> normal(int64_t n, float scale = 1.0f) {
    std::normal_distribution<float> distribution(0.0f, scale);
    std::vector<float> v(static_cast<size_t>(n));
    for (auto& x : v) x = distribution(rng);
    return v;
}

uint16_t half(float f) {  // positive normal numbers are enough here
    uint32_t bits;
    std::memcpy(&bits, &f, 4);
    return static_cast<uint16_t>(((bits >> 16) & 0x8000u) |
                                 ((((bits >> 23) & 0xffu) - 112u) << 10) | ((bits >> 13) & 0x3ffu));
}

// Weights as a file has them, with the values a hostile file could have.
std::vector<uint8_t> weights(int slot, int64_t rows, int64_t k) {
    std::vector<uint8_t> bytes(static_cast<size_t>(rows * row_bytes(slot, k)));
    std::uniform_int_distribution<int> byte(0, 255);
    if (slot == kF32) {
        const auto v = normal(rows * k, 0.1f);
        std::memcpy(bytes.data(), v.data(), bytes.size());
    } else if (slot == kF16) {
        for (size_t i = 0; i < bytes.size(); i += 2) {
            const uint16_t h = half((byte(rng) % 2 ? 0.5f : -0.5f) / float(1 + byte(rng)));
            std::memcpy(&bytes[i], &h, 2);
        }
    } else {
        const size_t block = static_cast<size_t>(slot == kQ8 ? kQ8BlockBytes : kQ4BlockBytes);
        for (size_t i = 0; i < bytes.size(); i += block) {
            const uint16_t h = half(0.001f * float(1 + byte(rng)));
            std::memcpy(&bytes[i], &h, 2);
            for (size_t j = 2; j < block; ++j) bytes[i + j] = static_cast<uint8_t>(byte(rng));
        }
        if (slot == kQ8) std::memset(bytes.data() + 2, 0x80, 32);  // -128, the worst case
    }
    return bytes;
}

struct Quantized {
    std::vector<float> f;
    std::vector<int8_t> q;
    std::vector<float> d;
    std::vector<int32_t> s;
    int64_t k;

    Activations from(int64_t t) const {
        return {f.data() + t * k, q.data() + t * k, d.data() + t * k / kGroup,
                s.data() + t * k / kGroup, k};
    }
};

Quantized quantize(const Kernels& kernels, std::vector<float> f, int64_t k) {
    Quantized x{std::move(f), {}, {}, {}, k};
    x.q.resize(x.f.size());
    x.d.resize(x.f.size() / kGroup + 1);
    x.s.resize(x.f.size() / kGroup + 1);
    if (k % kGroup == 0)
        kernels.quantize(x.f.data(), static_cast<int64_t>(x.f.size()), x.q.data(), x.d.data(),
                         x.s.data());
    return x;
}

void test_quantize(const Kernels& k) {
    auto f = normal(32 * 8);
    std::fill(f.begin(), f.begin() + 32, 0.0f);
    for (int i = 32; i < 64; ++i) f[static_cast<size_t>(i)] = 1e-42f * float(i);
    f[64] = 3e30f;
    const auto x = quantize(k, f, 256);
    for (size_t g = 0; g < 8; ++g) {
        int32_t sum = 0;
        for (size_t i = g * 32; i < g * 32 + 32; ++i) {
            sum += x.q[i];
            check(x.q[i] >= -127, k, "quantize range", x.q[i], -127);
            check(std::fabs(x.q[i] * x.d[g] - f[i]) <= 0.5001f * x.d[g] + 1e-37f, k,
                  "quantize error", x.q[i] * x.d[g], f[i]);
        }
        check(x.s[g] == -128 * sum, k, "quantize sum", x.s[g], -128 * sum);
    }
}

void test_products(const Kernels& k) {
    struct Shape {
        int64_t rows, k, tokens;
    };
    const Shape shapes[] = {{16, 32, 1}, {16, 64, 5},   {13, 96, 8}, {16, 1056, 11},
                            {3, 2048, 128}, {16, 1024, 17}, {64, 1056, 6}, {50, 96, 7},
                            {21, 1024, 2}, {40, 64, 3}, {24, 96, 4}};
    for (int slot = 0; slot < kTypeSlots; ++slot) {
        for (Shape shape : shapes) {
            if (slot == kF32 || slot == kF16) shape.k -= 5;  // rows of any length
            const auto w = weights(slot, shape.rows, shape.k);
            const auto x =
                quantize(kernels_scalar, normal(shape.k * shape.tokens), shape.k);
            const int64_t ldy = shape.rows + 3;
            std::vector<float> y(static_cast<size_t>(shape.tokens * ldy), -1.0f);
            void* scratch = std::aligned_alloc(64, kScratchBytes);
            k.gemm[slot](w.data(), shape.rows, x.from(0), shape.tokens, y.data(), ldy, scratch);
            std::free(scratch);
            auto beside = y;
            std::fill(beside.begin(), beside.end(), -1.0f);
            k.columns[slot](w.data(), shape.rows, x.from(0), shape.tokens, beside.data(), ldy);
            for (int64_t t = 0; t < shape.tokens; ++t) {
                std::vector<float> one(static_cast<size_t>(shape.rows)), wanted(one);
                k.matvec[slot](w.data(), shape.rows, x.from(t), one.data());
                kernels_scalar.matvec[slot](w.data(), shape.rows, x.from(t), wanted.data());
                for (int64_t r = 0; r < shape.rows; ++r) {
                    const float a = one[static_cast<size_t>(r)];
                    const float b = wanted[static_cast<size_t>(r)];
                    const float c = y[static_cast<size_t>(t * ldy + r)];
                    check(std::fabs(a - b) <= 2e-4f * (1.0f + std::fabs(b)), k, "matvec", a, b);
                    check(c == a, k, "gemm is not matvec to the bit", c, a);
                    const float d = beside[static_cast<size_t>(t * ldy + r)];
                    check(d == a, k, "columns are not matvec to the bit", d, a);
                }
                check(y[static_cast<size_t>(t * ldy + shape.rows)] == -1.0f, k, "gemm overrun",
                      0, 0);
                check(beside[static_cast<size_t>(t * ldy + shape.rows)] == -1.0f, k,
                      "columns overrun", 0, 0);
            }
        }
        const auto row = weights(slot, 1, 96);
        std::vector<float> a(96), b(96);
        k.dequantize[slot](row.data(), 96, a.data());
        kernels_scalar.dequantize[slot](row.data(), 96, b.data());
        for (size_t i = 0; i < 96; ++i) check(a[i] == b[i], k, "dequantize", a[i], b[i]);
    }
}

void test_halves(const Kernels& k) {
    // Every half but the infinities and NaNs, against the definition.
    for (uint32_t h = 0; h < 65536; ++h) {
        const uint32_t exponent = (h >> 10) & 31, mantissa = h & 1023;
        if (exponent == 31) continue;
        const uint16_t bits[16] = {static_cast<uint16_t>(h)};
        float y[16];
        k.dequantize[kF16](bits, h % 2 ? 1 : 16, y);
        const double wanted = (h >> 15 ? -1 : 1) *
                              (exponent ? std::ldexp(1024.0 + mantissa, int(exponent) - 25)
                                        : std::ldexp(double(mantissa), -24));
        check(double(y[0]) == wanted, k, "half", y[0], wanted);
    }
}

void test_elementwise(const Kernels& k) {
    for (const int64_t n : {1, 7, 64, 100, 1024}) {
        const auto x = normal(n, 3.0f), other = normal(n), mix = normal(n);
        const auto size = static_cast<size_t>(n);
        std::vector<float> a(size), b(size);
        k.layer_norm(x.data(), other.data(), mix.data(), n, 1e-5f, a.data());
        double mean = 0, squares = 0;
        for (const float v : x) mean += v / double(n);
        for (const float v : x) squares += (v - mean) * (v - mean) / double(n);
        for (size_t i = 0; i < size; ++i) {
            const double wanted = (x[i] - mean) / std::sqrt(squares + 1e-5) * other[i] + mix[i];
            check(std::fabs(a[i] - wanted) < 2e-5, k, "layer_norm", a[i], wanted);
        }
        k.lerp(x.data(), other.data(), mix.data(), n, a.data());
        for (size_t i = 0; i < size; ++i) {
            const double wanted = x[i] + double(other[i] - x[i]) * mix[i];
            check(std::fabs(a[i] - wanted) < 1e-5, k, "lerp", a[i], wanted);
        }
        a = x;
        k.add(a.data(), other.data(), n);
        for (size_t i = 0; i < size; ++i)
            check(a[i] == x[i] + other[i], k, "add", a[i], x[i] + other[i]);
        a = x;
        k.add_gated(a.data(), mix.data(), other.data(), n);
        for (size_t i = 0; i < size; ++i) {
            const double wanted = x[i] + other[i] / (1 + std::exp(-double(mix[i])));
            check(std::fabs(a[i] - wanted) < 1e-5, k, "add_gated", a[i], wanted);
        }
        a = x;
        k.relu_square(a.data(), n);
        for (size_t i = 0; i < size; ++i) {
            const float wanted = x[i] > 0 ? x[i] * x[i] : 0;
            check(a[i] == wanted, k, "relu_square", a[i], wanted);
        }
        a = x;
        for (size_t i = 0; i < size; ++i) a[i] *= 20;  // into both tails
        b = a;
        k.tanh(a.data(), n);
        k.sigmoid(b.data(), n);
        for (size_t i = 0; i < size; ++i) {
            const double v = double(x[i]) * 20;
            check(std::fabs(a[i] - std::tanh(v)) < 3e-7, k, "tanh", a[i], std::tanh(v));
            const double wanted = 1 / (1 + std::exp(-v));
            check(std::fabs(b[i] - wanted) < 3e-7, k, "sigmoid", b[i], wanted);
        }
    }
}

void test_wkv4(const Kernels& k) {
    const int64_t n = 67, tokens = 9;
    const auto size = static_cast<size_t>(n);
    const auto key = normal(n * tokens, 3), v = normal(n * tokens), r = normal(n * tokens);
    auto decay = normal(n);
    for (auto& d : decay) d = -std::exp(d);
    const auto first = normal(n);
    std::vector<float> aa(size, 0), bb(size, 0), pp(size, -1e30f), out(size * tokens);
    const Wkv4 args{key.data(), v.data(),  r.data(),  out.data(), decay.data(), first.data(),
                    aa.data(),  bb.data(), pp.data(), aa.data(),  bb.data(),    pp.data(),
                    n,          tokens};
    k.wkv4(args, 0, 30);
    k.wkv4(args, 30, n);
    for (size_t c = 0; c < size; ++c) {
        // The definition, without the exponent's bookkeeping.
        double num = 0, den = 0;
        for (size_t t = 0; t < static_cast<size_t>(tokens); ++t) {
            const size_t i = t * size + c;
            const double now = std::exp(double(first[c]) + key[i]);
            const double wanted =
                (num + now * v[i]) / (den + now) / (1 + std::exp(-double(r[i])));
            check(std::fabs(out[i] - wanted) < 2e-5 * (1 + std::fabs(wanted)), k, "wkv4", out[i],
                  wanted);
            num = num * std::exp(double(decay[c])) + std::exp(double(key[i])) * v[i];
            den = den * std::exp(double(decay[c])) + std::exp(double(key[i]));
        }
    }
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

void test_wkv7(const Kernels& k, int64_t n) {
    const int64_t heads = 2, width = heads * n, tokens = 5;
    const auto total = static_cast<size_t>(width * tokens);
    const auto r = normal(width * tokens), w = normal(width * tokens), key = normal(width * tokens);
    const auto v0 = normal(width * tokens), a = normal(width * tokens), vm = normal(width * tokens);
    const auto vf = normal(width * tokens), g = normal(width * tokens);
    const auto w0 = normal(width), a0 = normal(width), vb = normal(width), k_k = normal(width);
    const auto k_a = normal(width), r_k = normal(width), ln_w = normal(width), ln_b = normal(width);
    const auto before = normal(width * n, 0.3f);
    for (const bool residual : {false, true}) {
        auto v = v0;
        std::vector<float> out(total), after(before.size());
        const Wkv7 args{r.data(), w.data(), key.data(), v.data(), a.data(),
                        residual ? vm.data() : nullptr, residual ? vf.data() : nullptr, g.data(),
                        out.data(), w0.data(), a0.data(), vb.data(), k_k.data(), k_a.data(),
                        r_k.data(), ln_w.data(), ln_b.data(), before.data(), after.data(), width,
                        tokens, n};
        for (int64_t h = 0; h < heads; ++h) k.wkv7(args, h);
        std::vector<double> s(before.begin(), before.end());
        const auto size = static_cast<size_t>(n);
        for (size_t h = 0; h < static_cast<size_t>(heads); ++h) {
            double* state = s.data() + h * size * size;
            for (size_t t = 0; t < static_cast<size_t>(tokens); ++t) {
                const size_t o = t * static_cast<size_t>(width) + h * size, c = h * size;
                std::vector<double> kk(size), kx(size), vx(size), y(size, 0.0);
                double norm = 0, bonus = 0, mean = 0, variance = 0;
                for (size_t i = 0; i < size; ++i) norm += std::pow(double(key[o + i]) * k_k[c + i], 2);
                for (size_t i = 0; i < size; ++i) {
                    const double rate = sigmoid(double(a0[c + i]) + a[o + i]);
                    kk[i] = key[o + i] * k_k[c + i] / std::sqrt(norm);
                    kx[i] = key[o + i] * (1 + (rate - 1) * k_a[c + i]);
                    vx[i] = v0[o + i];
                    if (residual)
                        vx[i] += (vf[o + i] - vx[i]) * sigmoid(double(vb[c + i]) + vm[o + i]);
                    bonus += r[o + i] * kx[i] * r_k[c + i];
                }
                for (size_t i = 0; i < size; ++i) {
                    double sa = 0;
                    for (size_t j = 0; j < size; ++j) sa -= state[j * size + i] * kk[j];
                    for (size_t j = 0; j < size; ++j) {
                        const double decay =
                            std::exp(-0.606531 * sigmoid(double(w0[c + j]) + w[o + j]));
                        const double rate = sigmoid(double(a0[c + j]) + a[o + j]);
                        double& cell = state[j * size + i];
                        cell = cell * decay + sa * kk[j] * rate + vx[i] * kx[j];
                        y[i] += cell * r[o + j];
                    }
                    mean += y[i] / double(n);
                }
                for (size_t i = 0; i < size; ++i)
                    variance += (y[i] - mean) * (y[i] - mean) / double(n);
                for (size_t i = 0; i < size; ++i) {
                    const double normed =
                        (y[i] - mean) / std::sqrt(variance + 64e-5) * ln_w[c + i] + ln_b[c + i];
                    const double wanted = (normed + bonus * vx[i]) * g[o + i];
                    check(std::fabs(out[o + i] - wanted) < 2e-3 * (1 + std::fabs(wanted)), k,
                          "wkv7", out[o + i], wanted);
                }
            }
        }
        for (size_t i = 0; i < s.size(); ++i)
            check(std::fabs(after[i] - s[i]) < 1e-3 * (1 + std::fabs(s[i])), k, "wkv7 state",
                  after[i], s[i]);
    }
}

}  // namespace

// With a name, that table must be among those tested.
int main(int argc, char** argv) {
    bool found = argc < 2;
    for (const Kernels* const* table = supported_kernels(); *table != nullptr; ++table) {
        const Kernels& k = **table;
        found = found || std::string(k.name) == argv[1];
        const int before = failures;
        test_quantize(k);
        test_products(k);
        test_halves(k);
        test_elementwise(k);
        test_wkv4(k);
        for (const int64_t n : {16, 32, 64, 20}) test_wkv7(k, n);
        std::printf("%-13s %s\n", k.name, failures == before ? "ok" : "FAILED");
    }
    if (!found) std::printf("%s cannot run here\n", argv[1]);
    std::printf("%d checks, %d failures\n", checks, failures);
    return failures == 0 && found ? 0 : 1;
}
