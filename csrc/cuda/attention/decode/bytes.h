// Rows of the store as registers, and elements of a type that is known at run time.
#pragma once

#include "cuda/attention/decode/args.h"
#include "cuda/common/element.h"
#include "cuda/common/words.h"
#include "cuda/ptx/prefetch.h"

namespace sparsecore::cuda::decode {

constexpr int kPiece = sizeof(Words4);

// Bytes first ... first + 15 of a row, zeros beyond its end.
SC_DEVICE Words4 load_piece(const std::uint8_t* row, int first, int bytes, bool aligned) {
    if (aligned && first + kPiece <= bytes) return *reinterpret_cast<const Words4*>(row + first);
    // Rare: a loop that is short in code and registers, as this is inlined wherever rows are read.
    std::uint64_t low = 0, high = 0;
    const int count = bytes - first < kPiece ? bytes - first : kPiece;
    for (int i = count - 1; i >= 0; --i) {
        high = high << 8 | low >> 56;
        low = low << 8 | row[first + i];
    }
    return {{static_cast<std::uint32_t>(low), static_cast<std::uint32_t>(low >> 32), static_cast<std::uint32_t>(high),
             static_cast<std::uint32_t>(high >> 32)}};
}

// By `lanes` lanes, of which this is `own`.
SC_DEVICE void prefetch_row(const std::uint8_t* row, int bytes, int own, int lanes) {
    for (int at = own * kSectorBytes; at < bytes; at += lanes * kSectorBytes) prefetch(row + at);
}

SC_DEVICE float load_element(const void* data, std::int64_t place, core::DType type) {
    switch (type) {
        case core::DType::F32: return to_float(static_cast<const F32*>(data)[place]);
        case core::DType::F16: return to_float(static_cast<const F16*>(data)[place]);
        default: return to_float(static_cast<const BF16*>(data)[place]);
    }
}

SC_DEVICE void store_element(void* data, std::int64_t place, core::DType type, float value) {
    switch (type) {
        case core::DType::F32: return store(static_cast<F32*>(data) + place, value);
        case core::DType::F16: return store(static_cast<F16*>(data) + place, value);
        default: return store(static_cast<BF16*>(data) + place, value);
    }
}

}  // namespace sparsecore::cuda::decode
