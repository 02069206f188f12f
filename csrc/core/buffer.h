// Scratch memory, aligned to a cache line. It grows, is never shrunk and is not initialised.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>

#include "core/checked.h"

namespace sparsecore::core {

constexpr int64_t kAlignment = 64;

class AlignedBuffer {
public:
    AlignedBuffer() = default;
    explicit AlignedBuffer(int64_t bytes) { reserve(bytes); }
    AlignedBuffer(AlignedBuffer&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
    AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(bytes_, other.bytes_);
        return *this;
    }
    AlignedBuffer(const AlignedBuffer&) = delete;
    AlignedBuffer& operator=(const AlignedBuffer&) = delete;
    ~AlignedBuffer() { std::free(data_); }

    // At least `bytes` bytes; what was in the buffer is lost when it has to grow.
    void* reserve(int64_t bytes) {
        if (bytes > bytes_) {
            const int64_t size = round_up(bytes, kAlignment, "scratch buffer");
            std::free(data_);
            bytes_ = 0;
            data_ = std::aligned_alloc(kAlignment, static_cast<size_t>(size));
            if (data_ == nullptr) throw std::bad_alloc();
            bytes_ = size;
        }
        return data_;
    }

    template <class T>
    T* as() const {
        return static_cast<T*>(data_);
    }
    int64_t bytes() const { return bytes_; }

private:
    void* data_ = nullptr;
    int64_t bytes_ = 0;
};

}  // namespace sparsecore::core
