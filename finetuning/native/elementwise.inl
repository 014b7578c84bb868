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

}  // namespace
}  // namespace friend_kernels
