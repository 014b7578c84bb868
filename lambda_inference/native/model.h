// The weights of a model: views into the mapped file, checked for shape.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "gguf_file.h"
#include "kernels.h"

namespace rwkv {

struct Matrix {
    const uint8_t* data = nullptr;
    int slot = kF32;
    int64_t rows = 0;
    int64_t cols = 0;
    int64_t stride = 0;  // bytes of a row

    bool quantized() const { return slot == kQ8 || slot == kQ4; }
};

struct Norm {
    const float* weight = nullptr;
    const float* bias = nullptr;
};

// One layer of either generation; the parts a generation lacks stay empty.
struct Layer {
    Norm norm1, norm2;
    Matrix receptance, key, value, output;
    Matrix ffn_key, ffn_value;

    // RWKV-7: mixes in the order r, w, k, v, a, g.
    const float* mix[6] = {};
    const float* ffn_mix_k = nullptr;
    Matrix w1, w2, a1, a2, v1, v2, g1, g2;
    const float *w0 = nullptr, *a0 = nullptr, *v0 = nullptr;
    const float *k_k = nullptr, *k_a = nullptr, *r_k = nullptr;
    Norm head_norm;

    // RWKV-4: mixes in the order k, v, r in `mix`.
    const float* ffn_mix_r = nullptr;
    Matrix ffn_receptance;
    const float* decay = nullptr;  // -exp(time_decay)
    const float* first = nullptr;
};

class Model {
  public:
    explicit Model(const std::string& path);

    int generation = 0;  // 4 or 7
    int64_t layers = 0;
    int64_t width = 0;      // embedding length
    int64_t ffn_width = 0;
    int64_t vocab = 0;
    int64_t head_size = 0;  // RWKV-7
    int64_t lora_rank = 0;  // the largest, RWKV-7
    float epsilon = 1e-5f;
    int64_t bytes_per_token = 0;  // of weights that decoding reads

    Matrix embedding, head;
    Norm norm_in, norm_out;
    std::vector<Layer> blocks;

    const GgufFile& file() const { return file_; }
    int64_t state_floats() const {
        return layers * (generation == 7 ? width * (2 + head_size) : width * 5);
    }

  private:
    const TensorInfo& find(const std::string& name) const;
    Matrix matrix(const std::string& name, int64_t rows, int64_t cols) const;
    Matrix lora(const std::string& name, bool down) const;
    const float* vector(const std::string& name, int64_t n, int64_t rows = 1);
    Norm norm(const std::string& name);
    uint64_t dimension(const std::string& key, uint64_t most) const;
    void load_rwkv4(Layer& layer, const std::string& block);
    void load_rwkv7(Layer& layer, const std::string& block, bool first);

    GgufFile file_;
    std::deque<std::vector<float>> converted_;
};

}  // namespace rwkv
