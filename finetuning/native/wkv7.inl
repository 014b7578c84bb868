// RWKV-7's recurrence step by step, and its gradient. A head's state stays in the first-level
// cache; the forward pass keeps one state in kChunk, and the backward pass computes the ones
// between anew (going backwards by division would lose all digits).
namespace friend_kernels {
namespace {

// One head of one row: where its step 0 begins, and how far it is to the next.
struct Head {
    int64_t size, time, stride;
    const float *r, *log_w, *k, *v, *a, *b;
};

inline Head head_of(const Wkv7& p, int64_t row, int64_t head) {
    const int64_t at = (row * p.time * p.heads + head) * p.size;
    return {p.size,    p.time,   p.heads * p.size, p.r + at, p.log_w + at,
            p.k + at, p.v + at, p.a + at,         p.b + at};
}

// From [rows][columns] to [columns][rows], both multiples of VW; strides in floats.
inline void transpose(const float* from, int64_t from_stride, float* to, int64_t to_stride,
                      int64_t rows, int64_t columns) {
    for (int64_t i = 0; i < rows; i += VW)
        for (int64_t j = 0; j < columns; j += VW) {
            vf tile[VW];
            for (int x = 0; x < VW; ++x) tile[x] = load(from + (i + x) * from_stride + j);
            transpose_tile(tile);
            for (int x = 0; x < VW; ++x) store(to + (j + x) * to_stride + i, tile[x]);
        }
}

inline void exp_row(const float* from, float* to, int64_t n) {
    for (int64_t i = 0; i < n; i += VW) store(to + i, exp_v(load(from + i)));
}

// The state as [key][value] here, so that sums over keys run down the lanes. One pass over it a
// step: while S_t is written, y_t and u_{t+1} are summed. N: the size, or 0 for any; B vectors of
// values at a time.
template <int N, int B>
void forward_head(const Head& h, const float* state, float* y, float* last, float* u_kept,
                  float* kept, float* scratch) {
    const int64_t n = N != 0 ? N : h.size;
    float* const s = scratch;
    float *const w = s + n * n, *const zeros = w + n, *const u = zeros + n;
    std::memset(zeros, 0, static_cast<size_t>(n) * sizeof(float));
    transpose(state, n, s, n, n, n);
    for (int64_t i = 0; i < n; i += VW) {
        vf sum_u{};
        for (int64_t j = 0; j < n; ++j) sum_u += load(s + j * n + i) * h.a[j];
        store(u + i, sum_u);
    }
    for (int64_t t = 0; t < h.time; ++t) {
        const int64_t at = t * h.stride;
        const float *const r = h.r + at, *const k = h.k + at, *const b = h.b + at;
        const float* const a_next = t + 1 < h.time ? h.a + at + h.stride : zeros;
        exp_row(h.log_w + at, w, n);
        if (kept != nullptr) {
            if (t % kChunk == 0)
                std::memcpy(kept + t / kChunk * n * n, s, static_cast<size_t>(n * n) * sizeof(float));
            std::memcpy(u_kept + at, u, static_cast<size_t>(n) * sizeof(float));
        }
        for (int64_t i = 0; i < n; i += B * VW) {
            vf u_now[B], value[B], sum_y[B], sum_u[B];
            for (int c = 0; c < B; ++c) {
                u_now[c] = load(u + i + c * VW);
                value[c] = load(h.v + at + i + c * VW);
                sum_y[c] = sum_u[c] = vf{};
            }
            for (int64_t j = 0; j < n; ++j) {
                float* const row = s + j * n + i;
                const vf wj = all(w[j]), bj = all(b[j]), kj = all(k[j]), rj = all(r[j]),
                         aj = all(a_next[j]);
                for (int c = 0; c < B; ++c) {
                    vf x = load(row + c * VW) * wj;
                    x += u_now[c] * bj;
                    x += value[c] * kj;
                    store(row + c * VW, x);
                    sum_y[c] += x * rj;
                    sum_u[c] += x * aj;
                }
            }
            for (int c = 0; c < B; ++c) {
                store(y + at + i + c * VW, sum_y[c]);
                store(u + i + c * VW, sum_u[c]);
            }
        }
    }
    transpose(s, n, last, n, n, n);
}

// Where a head's gradients go, laid out as its operands.
struct HeadGradients {
    const float *u, *kept, *dy;
    float *dr, *dlog_w, *dk, *dv, *da, *db, *dstate;  // dstate: at first that of the last state
};

// [value][key] here: six of the eight sums run over values, down the lanes. With G the gradient
// of S_t (that through y_t included), du = G b_t,  dv = G k_t,  dk = v^T G,  db = u^T G,
// dw = sum over values of S_{t-1} G,  da = du^T S_{t-1},  and  G <- G diag(w_t) + du a_t^T.
// dr = S_t^T dy is taken from S_{t-1}^T dy, so that only S_{t-1} is read.
// R rows (values) at a time, through a whole chunk; A or C vectors of keys at a
// time, as registers allow.
template <int N, int R, int A, int C>
void backward_head(const Head& h, const HeadGradients& g, float* scratch) {
    const int64_t n = N != 0 ? N : h.size;
    float* const past = scratch;                          // [kChunk][R][n]
    float* const w = past + kChunk * R * n;               // [kChunk][n]
    float* const totals = w + kChunk * n;                 // [kChunk][5][n]
    for (int64_t chunk = chunks(h.time) - 1; chunk >= 0; --chunk) {
        const int64_t start = chunk * kChunk;
        const int64_t length = h.time - start < kChunk ? h.time - start : kChunk;
        for (int64_t s = 0; s < length; ++s)
            exp_row(h.log_w + (start + s) * h.stride, w + s * n, n);
        std::memset(totals, 0, static_cast<size_t>(length * 5 * n) * sizeof(float));
        for (int64_t first = 0; first < n; first += R) {
            transpose(g.kept + chunk * n * n + first, n, past, n, n, R);
            for (int64_t s = 0; s + 1 < length; ++s) {
                const int64_t at = (start + s) * h.stride;
                const float *const before = past + s * R * n, *const u = g.u + at + first,
                                   *const v = h.v + at + first;
                float* const after = past + (s + 1) * R * n;
                for (int64_t j = 0; j < n; j += A * VW) {
                    vf wj[A], kj[A], bj[A];
                    for (int c = 0; c < A; ++c) {
                        wj[c] = load(w + s * n + j + c * VW);
                        kj[c] = load(h.k + at + j + c * VW);
                        bj[c] = load(h.b + at + j + c * VW);
                    }
                    for (int i = 0; i < R; ++i) {
                        const vf ui = all(u[i]), vi_ = all(v[i]);
                        for (int c = 0; c < A; ++c) {
                            const int64_t key = i * n + j + c * VW;
                            vf x = load(before + key) * wj[c];
                            x += ui * bj[c];
                            x += vi_ * kj[c];
                            store(after + key, x);
                        }
                    }
                }
            }
            float* const d = g.dstate + first * n;
            for (int64_t s = length - 1; s >= 0; --s) {
                const int64_t at = (start + s) * h.stride;
                const float *const r = h.r + at, *const k = h.k + at, *const b = h.b + at,
                                   *const a = h.a + at, *const u = g.u + at + first,
                                   *const v = h.v + at + first, *const dy = g.dy + at + first;
                vf parts[2 * R] = {};  // du, dv: their sums over keys, lane by lane
                for (int64_t j = 0; j < n; j += A * VW) {
                    vf rj[A], kj[A], bj[A];
                    for (int c = 0; c < A; ++c) {
                        rj[c] = load(r + j + c * VW);
                        kj[c] = load(k + j + c * VW);
                        bj[c] = load(b + j + c * VW);
                    }
                    for (int i = 0; i < R; ++i) {
                        const vf dyi = all(dy[i]);
                        vf sum_u = parts[i], sum_v = parts[R + i];
                        for (int c = 0; c < A; ++c) {
                            const int64_t key = i * n + j + c * VW;
                            const vf x = load(d + key) + dyi * rj[c];
                            store(d + key, x);
                            sum_u += x * bj[c];
                            sum_v += x * kj[c];
                        }
                        parts[i] = sum_u;
                        parts[R + i] = sum_v;
                    }
                }
                alignas(64) float du[2 * R];
                for (int i = 0; i < 2 * R; i += VW) store(du + i, sums(parts + i));
                std::memcpy(g.dv + at + first, du + R, R * sizeof(float));
                const float* const before = past + s * R * n;
                float* const total = totals + s * 5 * n;
                for (int64_t j = 0; j < n; j += C * VW) {
                    vf wj[C], aj[C], sum_r[C], sum_w[C], sum_k[C], sum_a[C], sum_b[C];
                    for (int c = 0; c < C; ++c) {
                        const int64_t key = j + c * VW;
                        wj[c] = load(w + s * n + key);
                        aj[c] = load(a + key);
                        sum_r[c] = load(total + key);
                        sum_w[c] = load(total + n + key);
                        sum_k[c] = load(total + 2 * n + key);
                        sum_a[c] = load(total + 3 * n + key);
                        sum_b[c] = load(total + 4 * n + key);
                    }
                    for (int i = 0; i < R; ++i) {
                        const vf dyi = all(dy[i]), vi_ = all(v[i]), ui = all(u[i]),
                                 dui = all(du[i]);
                        for (int c = 0; c < C; ++c) {
                            const int64_t key = i * n + j + c * VW;
                            const vf x = load(d + key), old = load(before + key);
                            sum_r[c] += old * dyi;
                            sum_w[c] += old * x;
                            sum_a[c] += old * dui;
                            sum_k[c] += x * vi_;
                            sum_b[c] += x * ui;
                            store(d + key, x * wj[c] + dui * aj[c]);
                        }
                    }
                    for (int c = 0; c < C; ++c) {
                        const int64_t key = j + c * VW;
                        store(total + key, sum_r[c]);
                        store(total + n + key, sum_w[c]);
                        store(total + 2 * n + key, sum_k[c]);
                        store(total + 3 * n + key, sum_a[c]);
                        store(total + 4 * n + key, sum_b[c]);
                    }
                }
            }
        }
        for (int64_t s = 0; s < length; ++s) {
            const int64_t at = (start + s) * h.stride;
            vf through_u{}, through_v{};
            for (int64_t j = 0; j < n; j += VW) {
                const vf dy = load(g.dy + at + j);
                through_u += load(g.u + at + j) * dy;
                through_v += load(h.v + at + j) * dy;
            }
            const vf by_u = all(sum(through_u)), by_v = all(sum(through_v));
            const float* const total = totals + s * 5 * n;
            for (int64_t j = 0; j < n; j += VW) {
                const vf wj = load(w + s * n + j);
                vf dr = load(total + j) * wj;
                dr += by_u * load(h.b + at + j);
                dr += by_v * load(h.k + at + j);
                store(g.dr + at + j, dr);
                store(g.dlog_w + at + j, load(total + n + j) * wj);
                store(g.dk + at + j, load(total + 2 * n + j));
                store(g.da + at + j, load(total + 3 * n + j));
                store(g.db + at + j, load(total + 4 * n + j));
            }
        }
    }
}

void wkv7_forward(const Wkv7& p, const Wkv7Results& to) {
    const int64_t n = p.size, square = n * n;
    const Floats scratch = floats(square + 3 * n);
    for (int64_t row = 0; row < p.batch; ++row)
        for (int64_t head = 0; head < p.heads; ++head) {
            const Head h = head_of(p, row, head);
            const int64_t at = h.r - p.r, index = row * p.heads + head;
            auto* const run = n == 64 ? forward_head<64, VECTORS> : forward_head<0, 1>;
            run(h, p.state + index * square, to.y + at, to.last + index * square,
                to.u == nullptr ? nullptr : to.u + at,
                to.kept == nullptr ? nullptr : to.kept + index * chunks(p.time) * square,
                scratch.get());
        }
}

void wkv7_backward(const Wkv7& p, const Wkv7Gradients& to) {
    constexpr int kRows = ROWS;
    const int64_t n = p.size, square = n * n;
    const Floats scratch = floats(kChunk * n * (kRows + 6));
    for (int64_t row = 0; row < p.batch; ++row)
        for (int64_t head = 0; head < p.heads; ++head) {
            const Head h = head_of(p, row, head);
            const int64_t at = h.r - p.r, index = row * p.heads + head;
            const auto bytes = static_cast<size_t>(square) * sizeof(float);
            float* const dstate = to.dstate + index * square;
            if (to.dlast != nullptr)
                std::memcpy(dstate, to.dlast + index * square, bytes);
            else
                std::memset(dstate, 0, bytes);
            const HeadGradients g{to.u + at,
                                  to.kept + index * chunks(p.time) * square,
                                  to.dy + at,
                                  to.dr + at,
                                  to.dlog_w + at,
                                  to.dk + at,
                                  to.dv + at,
                                  to.da + at,
                                  to.db + at,
                                  dstate};
            auto* const run =
                n == 64 ? backward_head<64, kRows, VECTORS, VECTORS_BACKWARD>
                        : backward_head<0, VW, 1, 1>;
            run(h, g, scratch.get());
        }
}

}  // namespace
}  // namespace friend_kernels
