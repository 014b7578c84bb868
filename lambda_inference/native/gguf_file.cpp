#include "gguf_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "kernels.h"

namespace rwkv {
namespace {

enum ValueType : uint32_t {
    kUint8, kInt8, kUint16, kInt16, kUint32, kInt32, kFloat32, kBool, kString, kArray,
    kUint64, kInt64, kFloat64, kValueTypes,
};

constexpr uint64_t kFixedSize[kValueTypes] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
constexpr uint64_t kMaxName = 1024;
constexpr uint64_t kMaxDimension = uint64_t{1} << 40;

template <typename T>
T read_as(const uint8_t* p) {
    T v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

// Bytes of a row, or nothing where the type is not ours or the row ends
// within a group.
std::optional<uint64_t> bytes_of_row(uint32_t type, uint64_t cols) {
    switch (static_cast<TensorType>(type)) {
        case TensorType::F32: return cols * 4;
        case TensorType::F16: return cols * 2;
        case TensorType::Q8_0:
            if (cols % kGroup != 0) return std::nullopt;
            return cols / kGroup * kQ8BlockBytes;
        case TensorType::Q4_0:
            if (cols % kGroup != 0) return std::nullopt;
            return cols / kGroup * kQ4BlockBytes;
    }
    return std::nullopt;
}

}  // namespace

class GgufFile::Cursor {
  public:
    Cursor(const GgufFile& file, const uint8_t* at, const uint8_t* end)
        : file_(file), at_(at), end_(end) {}

    const uint8_t* at() const { return at_; }
    uint64_t left() const { return static_cast<uint64_t>(end_ - at_); }

    const uint8_t* take(uint64_t n, const char* what) {
        if (n > left())
            file_.fail(std::string("it ends in the middle of ") + what +
                       "; the file is truncated or damaged");
        const uint8_t* p = at_;
        at_ += n;
        return p;
    }

    template <typename T>
    T read(const char* what) {
        return read_as<T>(take(sizeof(T), what));
    }

    std::string_view string(const char* what) {
        const auto n = read<uint64_t>(what);
        return {reinterpret_cast<const char*>(take(n, what)), static_cast<size_t>(n)};
    }

    std::string_view name(const char* what) {
        const auto s = string(what);
        if (s.empty() || s.size() > kMaxName)
            file_.fail(std::string(what) + " is " + std::to_string(s.size()) +
                       " bytes long (1 to " + std::to_string(kMaxName) + " allowed)");
        return s;
    }

  private:
    const GgufFile& file_;
    const uint8_t* at_;
    const uint8_t* end_;
};

GgufFile::GgufFile(const std::string& path) : path_(path) {
    map();
    try {
        parse();
    } catch (...) {
        unmap();
        throw;
    }
}

GgufFile::~GgufFile() { unmap(); }

void GgufFile::unmap() {
    munmap(const_cast<uint8_t*>(base_), size_);
    close(fd_);
}

void GgufFile::check_length() const {
    struct stat info;
    if (fstat(fd_, &info) == 0 && static_cast<uint64_t>(info.st_size) < size_)
        fail("it was shortened while in use; put the whole file in its place (with mv, not cp) "
             "and start again");
}

void GgufFile::fail(const std::string& what) const {
    // Names in a damaged file may hold anything; a sentence must stay readable.
    std::string clean = what.substr(0, 400);
    for (char& c : clean)
        if (c < 0x20 || c > 0x7e) c = '?';
    throw ModelFileError("Cannot use the model file " + path_ + ": " + clean + ".");
}

void GgufFile::map() {
    const int fd = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) fail(std::strerror(errno));
    struct stat info;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size < 24) {
        const bool regular = S_ISREG(info.st_mode);
        close(fd);
        fail(regular ? "it is too short to be a GGUF file" : "it is not a regular file");
    }
    size_ = static_cast<size_t>(info.st_size);
    void* p = mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        const int error = errno;
        close(fd);
        fail(std::string("it cannot be mapped: ") + std::strerror(error));
    }
    fd_ = fd;
    base_ = static_cast<const uint8_t*>(p);
}

void GgufFile::skip_value(Cursor& cursor, uint32_t type, int depth) const {
    if (type == kString) {
        cursor.string("a metadata string");
    } else if (type == kArray) {
        if (depth > 0) fail("a metadata array holds arrays, which no RWKV model has");
        const auto of = cursor.read<uint32_t>("a metadata array");
        const auto count = cursor.read<uint64_t>("a metadata array");
        if (of >= kValueTypes) fail("a metadata array has the unknown type " + std::to_string(of));
        if (kFixedSize[of] != 0) {
            if (count > cursor.left() / kFixedSize[of])
                fail("a metadata array claims " + std::to_string(count) +
                     " values, more than the file holds");
            cursor.take(count * kFixedSize[of], "a metadata array");
        } else {
            if (count > cursor.left() / 8)
                fail("a metadata array claims " + std::to_string(count) +
                     " values, more than the file holds");
            for (uint64_t i = 0; i < count; ++i) skip_value(cursor, of, depth + 1);
        }
    } else if (type < kValueTypes) {
        cursor.take(kFixedSize[type], "a metadata value");
    } else {
        fail("a metadata value has the unknown type " + std::to_string(type));
    }
}

void GgufFile::parse() {
    Cursor cursor(*this, base_, base_ + size_);
    const auto* magic = cursor.take(4, "the header");
    if (std::memcmp(magic, "GGUF", 4) != 0) {
        if (std::memcmp(magic, "PK", 2) == 0)
            fail("it is a PyTorch checkpoint, not GGUF; run `friend model convert` on it first");
        fail("it is not a GGUF file");
    }
    const auto version = cursor.read<uint32_t>("the header");
    if (version != 2 && version != 3)
        fail("its GGUF version is " + std::to_string(version) +
             " (2 and 3 are supported; a huge number means a big-endian file)");
    const auto tensor_count = cursor.read<uint64_t>("the header");
    const auto value_count = cursor.read<uint64_t>("the header");
    // A tensor takes at least 33 bytes of header, a value at least 14.
    if (tensor_count > size_ / 33 || value_count > size_ / 14)
        fail("it claims " + std::to_string(tensor_count) + " tensors and " +
             std::to_string(value_count) + " metadata values, more than it can hold");

    for (uint64_t i = 0; i < value_count; ++i) {
        const auto key = cursor.name("a metadata key");
        const auto type = cursor.read<uint32_t>("a metadata value");
        const auto* at = cursor.at();
        skip_value(cursor, type, 0);
        if (!values_.emplace(key, Value{type, at}).second)
            fail("the metadata key " + std::string(key) + " is there twice");
    }

    tensors_.reserve(static_cast<size_t>(tensor_count));
    for (uint64_t i = 0; i < tensor_count; ++i) {
        TensorInfo info;
        info.name = cursor.name("a tensor name");
        const auto dimensions = cursor.read<uint32_t>("a tensor's shape");
        if (dimensions < 1 || dimensions > 4)
            fail("tensor " + std::string(info.name) + " has " + std::to_string(dimensions) +
                 " dimensions (1 to 4 allowed)");
        uint64_t shape[4] = {1, 1, 1, 1};
        for (uint32_t d = 0; d < dimensions; ++d) {
            shape[d] = cursor.read<uint64_t>("a tensor's shape");
            if (shape[d] < 1 || shape[d] > kMaxDimension)
                fail("tensor " + std::string(info.name) + " has a dimension of " +
                     std::to_string(shape[d]));
        }
        uint64_t rows = 1;
        for (int d = 1; d < 4; ++d) {
            if (rows > kMaxDimension / shape[d])
                fail("tensor " + std::string(info.name) + " is impossibly large");
            rows *= shape[d];
        }
        info.cols = static_cast<int64_t>(shape[0]);
        info.rows = static_cast<int64_t>(rows);
        info.type = cursor.read<uint32_t>("a tensor's type");
        info.offset = cursor.read<uint64_t>("a tensor's offset");
        if (!by_name_.emplace(info.name, tensors_.size()).second)
            fail("tensor " + std::string(info.name) + " is there twice");
        tensors_.push_back(info);
    }

    const auto alignment = integer("general.alignment").value_or(32);
    if (alignment < 8 || alignment > (1u << 20) || (alignment & (alignment - 1)) != 0)
        fail("its alignment is " + std::to_string(alignment) +
             " (a power of two from 8 to 1048576 expected)");
    check_tensors(alignment, static_cast<uint64_t>(cursor.at() - base_));
}

void GgufFile::check_tensors(uint64_t alignment, uint64_t header_end) {
    const uint64_t start = (header_end + alignment - 1) / alignment * alignment;
    // With no room for data, every tensor below is out of range.
    const uint64_t room = start < size_ ? size_ - start : 0;
    data_ = base_ + (start < size_ ? start : size_);
    for (const auto& info : tensors_) {
        const std::string name(info.name);
        const auto cols = static_cast<uint64_t>(info.cols);
        const auto rows = static_cast<uint64_t>(info.rows);
        const auto row = bytes_of_row(info.type, cols);
        if (!row) continue;  // Refused when the model asks for it, with its name.
        if (info.offset % alignment != 0)
            fail("tensor " + name + " is not aligned");
        if (info.offset > room || *row > room || rows > (room - info.offset) / *row)
            fail("tensor " + name + " lies beyond the end of the file; it is truncated or damaged");
    }
}

std::optional<uint64_t> GgufFile::integer(std::string_view key) const {
    const auto found = values_.find(key);
    if (found == values_.end()) return std::nullopt;
    const auto [type, at] = found->second;
    int64_t v = 0;
    switch (type) {
        case kUint8: return read_as<uint8_t>(at);
        case kUint16: return read_as<uint16_t>(at);
        case kUint32: return read_as<uint32_t>(at);
        case kUint64: return read_as<uint64_t>(at);
        case kInt8: v = read_as<int8_t>(at); break;
        case kInt16: v = read_as<int16_t>(at); break;
        case kInt32: v = read_as<int32_t>(at); break;
        case kInt64: v = read_as<int64_t>(at); break;
        default: fail("the metadata key " + std::string(key) + " is not an integer");
    }
    if (v < 0) fail("the metadata key " + std::string(key) + " is negative");
    return static_cast<uint64_t>(v);
}

std::optional<double> GgufFile::number(std::string_view key) const {
    const auto found = values_.find(key);
    if (found == values_.end()) return std::nullopt;
    const auto [type, at] = found->second;
    if (type == kFloat32) return read_as<float>(at);
    if (type == kFloat64) return read_as<double>(at);
    fail("the metadata key " + std::string(key) + " is not a floating-point number");
}

std::optional<std::string_view> GgufFile::text(std::string_view key) const {
    const auto found = values_.find(key);
    if (found == values_.end()) return std::nullopt;
    const auto [type, at] = found->second;
    if (type != kString) fail("the metadata key " + std::string(key) + " is not a text");
    const auto n = read_as<uint64_t>(at);
    return std::string_view{reinterpret_cast<const char*>(at + 8), static_cast<size_t>(n)};
}

const TensorInfo* GgufFile::tensor(std::string_view name) const {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : &tensors_[found->second];
}

}  // namespace rwkv
