#include "model.h"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>

namespace rwkv {
namespace {

int slot_of(uint32_t type) {
    switch (static_cast<TensorType>(type)) {
        case TensorType::F32: return kF32;
        case TensorType::F16: return kF16;
        case TensorType::Q8_0: return kQ8;
        case TensorType::Q4_0: return kQ4;
    }
    return -1;
}

}  // namespace

const TensorInfo& Model::find(const std::string& name) const {
    const TensorInfo* info = file_.tensor(name);
    if (info == nullptr) file_.fail("it has no tensor " + name);
    if (slot_of(info->type) < 0)
        file_.fail("tensor " + name + " has the type number " + std::to_string(info->type) +
                   "; F32, F16, Q8_0 and Q4_0 are supported");
    if ((info->type == static_cast<uint32_t>(TensorType::Q8_0) ||
         info->type == static_cast<uint32_t>(TensorType::Q4_0)) && info->cols % kGroup != 0)
        file_.fail("tensor " + name + " is quantized, but its rows are no multiple of 32 long");
    return *info;
}

Matrix Model::matrix(const std::string& name, int64_t rows, int64_t cols) const {
    const TensorInfo& info = find(name);
    if ((rows > 0 && info.rows != rows) || (cols > 0 && info.cols != cols))
        file_.fail("tensor " + name + " is " + std::to_string(info.rows) + " x " +
                   std::to_string(info.cols) + ", but " + std::to_string(rows) + " x " +
                   std::to_string(cols) + " fits the rest of the model");
    Matrix m;
    m.data = file_.data(info);
    m.slot = slot_of(info.type);
    m.rows = info.rows;
    m.cols = info.cols;
    m.stride = row_bytes(m.slot, m.cols);
    return m;
}

// A low-rank factor: down is [rank, width], up is [width, rank].
Matrix Model::lora(const std::string& name, bool down) const {
    Matrix m = down ? matrix(name, 0, width) : matrix(name, width, 0);
    const int64_t rank = down ? m.rows : m.cols;
    if (rank > 16384) file_.fail("tensor " + name + " has the impossible rank " +
                                 std::to_string(rank));
    return m;
}

const float* Model::vector(const std::string& name, int64_t n, int64_t rows) {
    const TensorInfo& info = find(name);
    if (info.cols * info.rows != n * rows || (rows > 1 && info.cols != n))
        file_.fail("tensor " + name + " has " + std::to_string(info.cols * info.rows) +
                   " values, but " + std::to_string(n * rows) + " fit the rest of the model");
    if (slot_of(info.type) == kF32) return reinterpret_cast<const float*>(file_.data(info));
    if (slot_of(info.type) != kF16)
        file_.fail("tensor " + name + " is quantized; a vector must be F32 or F16");
    auto& copy = converted_.emplace_back(static_cast<size_t>(n * rows));
    kernels_scalar.dequantize[kF16](file_.data(info), n * rows, copy.data());
    return copy.data();
}

Norm Model::norm(const std::string& name) {
    return {vector(name + ".weight", width), vector(name + ".bias", width)};
}

uint64_t Model::dimension(const std::string& key, uint64_t most) const {
    const auto value = file_.integer(key);
    if (!value) file_.fail("its metadata lacks " + key);
    if (*value < 1 || *value > most)
        file_.fail("its " + key + " is " + std::to_string(*value) + " (1 to " +
                   std::to_string(most) + " allowed)");
    return *value;
}

void Model::load_rwkv4(Layer& layer, const std::string& block) {
    static const char* const kMix[] = {"k", "v", "r"};
    for (int m = 0; m < 3; ++m)
        layer.mix[m] = vector(block + "time_mix_lerp_" + kMix[m] + ".weight", width);
    const float* raw = vector(block + "time_mix_decay.weight", width);
    auto& decay = converted_.emplace_back(static_cast<size_t>(width));
    for (int64_t i = 0; i < width; ++i) decay[static_cast<size_t>(i)] = -std::exp(raw[i]);
    layer.decay = decay.data();
    layer.first = vector(block + "time_mix_first.weight", width);
    layer.ffn_mix_k = vector(block + "channel_mix_lerp_k.weight", width);
    layer.ffn_mix_r = vector(block + "channel_mix_lerp_r.weight", width);
    layer.ffn_receptance = matrix(block + "channel_mix_receptance.weight", width, width);
}

void Model::load_rwkv7(Layer& layer, const std::string& block, bool first) {
    const float* fused = vector(block + "time_mix_lerp_fused.weight", width, 6);
    for (int m = 0; m < 6; ++m) layer.mix[m] = fused + m * width;
    const auto pair = [&](const char* name, Matrix& down, Matrix& up) {
        down = lora(block + "time_mix_" + name + "1.weight", true);
        up = lora(block + "time_mix_" + name + "2.weight", false);
        if (down.rows != up.cols)
            file_.fail("the low-rank factors " + block + "time_mix_" + name +
                       "1 and 2 do not fit together");
        lora_rank = std::max(lora_rank, down.rows);
    };
    pair("w", layer.w1, layer.w2);
    pair("a", layer.a1, layer.a2);
    pair("g", layer.g1, layer.g2);
    layer.w0 = vector(block + "time_mix_w0.weight", width);
    layer.a0 = vector(block + "time_mix_a0.weight", width);
    if (!first) {  // The first layer's are placeholders for llama.cpp.
        pair("v", layer.v1, layer.v2);
        layer.v0 = vector(block + "time_mix_v0.weight", width);
    }
    layer.k_k = vector(block + "time_mix_k_k.weight", width);
    layer.k_a = vector(block + "time_mix_k_a.weight", width);
    layer.r_k = vector(block + "time_mix_r_k.weight", width);
    layer.head_norm = norm(block + "time_mix_ln");
    layer.ffn_mix_k = vector(block + "channel_mix_lerp_k.weight", width);
}

Model::Model(const std::string& path) : file_(path) {
    const auto arch = file_.text("general.architecture");
    if (!arch) file_.fail("its metadata lacks general.architecture");
    if (*arch == "rwkv7") {
        generation = 7;
    } else if (*arch == "rwkv4") {
        generation = 4;
    } else {
        file_.fail("its architecture is '" + std::string(arch->substr(0, 40)) +
                   "'; this engine runs rwkv4 and rwkv7");
    }
    const std::string prefix = std::string(*arch) + ".";
    layers = static_cast<int64_t>(dimension(prefix + "block_count", 1024));
    width = static_cast<int64_t>(dimension(prefix + "embedding_length", 65536));
    epsilon = static_cast<float>(
        file_.number(prefix + "attention.layer_norm_epsilon").value_or(1e-5));
    if (!(epsilon > 0.0f && epsilon < 1.0f))
        file_.fail("its attention.layer_norm_epsilon is out of range");
    if (generation == 7) {
        head_size = static_cast<int64_t>(dimension(prefix + "wkv.head_size", kMaxHeadSize));
        if (width % head_size != 0)
            file_.fail("its embedding length is no multiple of its head size");
    }

    embedding = matrix("token_embd.weight", 0, width);
    vocab = embedding.rows;
    if (vocab > (1 << 24)) file_.fail("its vocabulary is impossibly large");
    norm_in = norm("token_embd_norm");
    norm_out = norm("output_norm");
    head = matrix("output.weight", vocab, width);

    blocks.resize(static_cast<size_t>(layers));
    for (int64_t i = 0; i < layers; ++i) {
        Layer& layer = blocks[static_cast<size_t>(i)];
        const std::string block = "blk." + std::to_string(i) + ".";
        layer.norm1 = norm(block + "attn_norm");
        layer.norm2 = norm(block + "attn_norm_2");
        layer.receptance = matrix(block + "time_mix_receptance.weight", width, width);
        layer.key = matrix(block + "time_mix_key.weight", width, width);
        layer.value = matrix(block + "time_mix_value.weight", width, width);
        layer.output = matrix(block + "time_mix_output.weight", width, width);
        layer.ffn_key = matrix(block + "channel_mix_key.weight", ffn_width, width);
        ffn_width = layer.ffn_key.rows;
        if (ffn_width > (1 << 20)) file_.fail("its feed-forward width is impossibly large");
        layer.ffn_value = matrix(block + "channel_mix_value.weight", width, ffn_width);
        if (generation == 7)
            load_rwkv7(layer, block, i == 0);
        else
            load_rwkv4(layer, block);
        for (const Matrix* m :
             {&layer.receptance, &layer.key, &layer.value, &layer.output, &layer.ffn_key,
              &layer.ffn_value, &layer.ffn_receptance, &layer.w1, &layer.w2, &layer.a1, &layer.a2,
              &layer.v1, &layer.v2, &layer.g1, &layer.g2})
            bytes_per_token += m->rows * m->stride;
    }
    bytes_per_token += head.rows * head.stride;
    // Start reading now what the first token will want.
    madvise(const_cast<uint8_t*>(file_.base()), file_.size(), MADV_WILLNEED);
}

}  // namespace rwkv
