// What stands around the matrix products, in one pass each.
namespace friend_kernels {
namespace {

template <class T>
void mix_forward_as(const Mix& p, const Either* out) {
    const int64_t width = p.width;
    for (int64_t row = 0; row < p.batch; ++row)
        for (int64_t t = 0; t < p.time; ++t) {
            const int64_t at = (row * p.time + t) * width;
            const float* const before = t == 0 ? p.last + row * width : p.x + at - width;
            for (int64_t c = 0; c < width; c += VW) {
                const vf x = load(p.x + at + c), step = load(before + c) - x;
                for (int64_t i = 0; i < p.mixes; ++i)
                    store(static_cast<T*>(out[i].data) + at + c,
                          x + step * load(p.mix + i * width + c));
            }
        }
}

// Backwards in time: what step t + 1 hands to x_t lies in `carried`.
template <class T>
void mix_backward_as(const Mix& p, const Either* dout, float* dx, float* dlast, float* dmix) {
    const int64_t width = p.width;
    const auto bytes = static_cast<size_t>(width) * sizeof(float);
    std::memset(dmix, 0, bytes * static_cast<size_t>(p.mixes));
    for (int64_t row = 0; row < p.batch; ++row) {
        float* const carried = dlast + row * width;
        std::memset(carried, 0, bytes);
        for (int64_t t = p.time - 1; t >= 0; --t) {
            const int64_t at = (row * p.time + t) * width;
            const float* const before = t == 0 ? p.last + row * width : p.x + at - width;
            for (int64_t c = 0; c < width; c += VW) {
                const vf step = load(before + c) - load(p.x + at + c);
                vf total{}, through_step{};
                for (int64_t i = 0; i < p.mixes; ++i) {
                    const vf d = load(static_cast<const T*>(dout[i].data) + at + c);
                    float* const sum = dmix + i * width + c;
                    total += d;
                    through_step += d * load(p.mix + i * width + c);
                    store(sum, load(sum) + d * step);
                }
                store(dx + at + c, total - through_step + load(carried + c));
                store(carried + c, through_step);
            }
        }
    }
}

void mix_forward(const Mix& p, const Either* out) {
    out[0].narrow ? mix_forward_as<bf16>(p, out) : mix_forward_as<float>(p, out);
}

void mix_backward(const Mix& p, const Either* dout, float* dx, float* dlast, float* dmix) {
    auto* const run = dout[0].narrow ? mix_backward_as<bf16> : mix_backward_as<float>;
    run(p, dout, dx, dlast, dmix);
}

inline vf relu(vf x) { return x > vf{} ? x : vf{}; }

template <class T>
void relu_square_as(int64_t count, const void* x, void* y) {
    for (int64_t i = 0; i < count; i += VW) {
        const vf kept = relu(load(static_cast<const T*>(x) + i));
        store(static_cast<T*>(y) + i, kept * kept);
    }
}

template <class T>
void relu_square_gradient_as(int64_t count, const void* x, const void* dy, void* dx) {
    for (int64_t i = 0; i < count; i += VW) {
        const vf kept = relu(load(static_cast<const T*>(x) + i));
        store(static_cast<T*>(dx) + i, 2.0f * kept * load(static_cast<const T*>(dy) + i));
    }
}

void relu_square_forward(int64_t count, Either x, Either y) {
    (x.narrow ? relu_square_as<bf16> : relu_square_as<float>)(count, x.data, y.data);
}

void relu_square_backward(int64_t count, Either x, Either dy, Either dx) {
    auto* const run = x.narrow ? relu_square_gradient_as<bf16> : relu_square_gradient_as<float>;
    run(count, x.data, dy.data, dx.data);
}

inline vf sigmoid(vf x) { return 1.0f / (1.0f + exp_v(-x)); }

// 1 / |k k_k|, and 1 / 1e-12 for what is shorter, as in functional.normalize.
inline float inverse_norm(const float* k, const float* k_k, int64_t n) {
    vf squares{};
    for (int64_t j = 0; j < n; j += VW) {
        const vf x = load(k + j) * load(k_k + j);
        squares += x * x;
    }
    const float norm = __builtin_sqrtf(sum(squares));
    return 1.0f / (norm > 1e-12f ? norm : 1e-12f);
}

void operands_forward(const Operands& p, float* const out[4]) {
    const int64_t n = p.size, width = p.heads * n;
    const float *const w0 = p.vectors, *const a0 = w0 + width, *const k_k = a0 + width,
                       *const k_a = k_k + width;
    for (int64_t at = 0; at < p.steps * width; at += n) {
        const int64_t c = at % width;
        const float scale = inverse_norm(p.k + at, k_k + c, n);
        for (int64_t j = 0; j < n; j += VW) {
            const vf k = load(p.k + at + j), rate = sigmoid(load(a0 + c + j) + load(p.a + at + j));
            const vf kk = k * load(k_k + c + j) * scale;
            store(out[0] + at + j, p.scale * sigmoid(load(w0 + c + j) + load(p.w + at + j)));
            store(out[1] + at + j, k * (1.0f + (rate - 1.0f) * load(k_a + c + j)));
            store(out[2] + at + j, -kk);
            store(out[3] + at + j, kk * rate);
        }
    }
}

inline void add_to(float* p, vf x) { store(p, load(p) + x); }

void operands_backward(const Operands& p, const float* const dout[4], float* const d[3],
                       float* dvectors) {
    const int64_t n = p.size, width = p.heads * n;
    const float *const w0 = p.vectors, *const a0 = w0 + width, *const k_k = a0 + width,
                       *const k_a = k_k + width;
    float *const dw0 = dvectors, *const da0 = dw0 + width, *const dk_k = da0 + width,
                 *const dk_a = dk_k + width;
    std::memset(dvectors, 0, static_cast<size_t>(4 * width) * sizeof(float));
    for (int64_t at = 0; at < p.steps * width; at += n) {
        const int64_t c = at % width;
        const float scale = inverse_norm(p.k + at, k_k + c, n);
        const bool tiny = scale >= 1e12f;  // there the norm is a constant
        // The rate's gradient first, and what kk's has along kk; kk's waits in d[0].
        vf along{};
        for (int64_t j = 0; j < n; j += VW) {
            const vf k = load(p.k + at + j), rate = sigmoid(load(a0 + c + j) + load(p.a + at + j));
            const vf kk = k * load(k_k + c + j) * scale, dkey = load(dout[1] + at + j),
                     dadded = load(dout[3] + at + j), dkk = dadded * rate - load(dout[2] + at + j);
            const vf fade = sigmoid(load(w0 + c + j) + load(p.w + at + j));
            const vf dw = load(dout[0] + at + j) * p.scale * fade * (1.0f - fade);
            const vf da =
                (dadded * kk + dkey * k * load(k_a + c + j)) * rate * (1.0f - rate);
            along += kk * dkk;
            store(d[0] + at + j, dkk);
            store(d[1] + at + j, dw);
            store(d[2] + at + j, da);
            add_to(dw0 + c + j, dw);
            add_to(da0 + c + j, da);
            add_to(dk_a + c + j, dkey * k * (rate - 1.0f));
        }
        const float part = tiny ? 0.0f : sum(along);
        for (int64_t j = 0; j < n; j += VW) {
            const vf k = load(p.k + at + j), rate = sigmoid(load(a0 + c + j) + load(p.a + at + j));
            const vf weight = load(k_k + c + j), kk = k * weight * scale;
            const vf dx = (load(d[0] + at + j) - kk * part) * scale;
            add_to(dk_k + c + j, dx * k);
            store(d[0] + at + j, dx * weight + load(dout[1] + at + j) *
                                                   (1.0f + (rate - 1.0f) * load(k_a + c + j)));
        }
    }
}

}  // namespace
}  // namespace friend_kernels
