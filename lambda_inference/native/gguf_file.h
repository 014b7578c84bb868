// A GGUF file, mapped read-only and checked before anything is believed.
//
// Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
// Every count, length and offset is compared with the bytes that are there, so
// a truncated or hostile file ends in a ModelFileError that says what is wrong.
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace rwkv {

struct ModelFileError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct TensorInfo {
    std::string_view name;
    uint32_t type = 0;
    int64_t cols = 0;   // length of a row: the first, fastest dimension
    int64_t rows = 0;   // product of the others
    uint64_t offset = 0;  // from the start of the data section
};

class GgufFile {
  public:
    explicit GgufFile(const std::string& path);
    ~GgufFile();
    GgufFile(const GgufFile&) = delete;
    GgufFile& operator=(const GgufFile&) = delete;

    // Null if there is none; a wrong type is an error.
    std::optional<uint64_t> integer(std::string_view key) const;
    std::optional<double> number(std::string_view key) const;
    std::optional<std::string_view> text(std::string_view key) const;

    const TensorInfo* tensor(std::string_view name) const;
    const uint8_t* data(const TensorInfo& tensor) const { return data_ + tensor.offset; }
    const std::vector<TensorInfo>& tensors() const { return tensors_; }
    const std::string& path() const { return path_; }
    size_t size() const { return size_; }
    const uint8_t* base() const { return base_; }

    // Throws if the file has become shorter since: its pages are gone then, and
    // reading them would end the process.
    void check_length() const;

    [[noreturn]] void fail(const std::string& what) const;

  private:
    struct Value {
        uint32_t type;
        const uint8_t* at;
    };
    class Cursor;

    void map();
    void unmap();
    void parse();
    void skip_value(Cursor& cursor, uint32_t type, int depth) const;
    void check_tensors(uint64_t alignment, uint64_t header_end);

    std::string path_;
    int fd_ = -1;
    const uint8_t* base_ = nullptr;
    size_t size_ = 0;
    const uint8_t* data_ = nullptr;
    std::unordered_map<std::string_view, Value> values_;
    std::unordered_map<std::string_view, size_t> by_name_;
    std::vector<TensorInfo> tensors_;
};

}  // namespace rwkv
