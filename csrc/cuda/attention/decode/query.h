// The queries of a block as operands of its products, in shared memory.
//
// Over bit planes a query is 15-bit integers 128 a + b with a and b in a byte each: two columns of a product of bytes, of
// which the first counts 128 times. A plane of nibbles meets its query in two halves, as its bytes hold two dimensions:
// the first half of the dimensions at the beginning of a column and the second 128 bytes behind.
#pragma once

#include "cuda/attention/decode/bytes.h"
#include "cuda/attention/decode/places.h"

namespace sparsecore::cuda::decode {

constexpr int kQueryBits = 15;

// kBytes bytes of an operand. Columns lie 64 bytes aside of a multiple of 128, so that the lanes of a warp, which read 16
// bytes of two columns at a time, meet in no bank.
template <int kColumns, int kBytes>
struct alignas(16) Columns {
    static constexpr int kStride = (kBytes + 127) / 128 * 128 + 64;
    std::uint8_t byte[kColumns][kStride];

    SC_DEVICE const Words4& piece(int column, int first) const {
        return *reinterpret_cast<const Words4*>(&byte[column][first]);
    }
};

using IntegerColumns = Columns<2 * kQueries, kWidth>;

// Of the integers of a query.
struct QueryScale {
    float factor;       // of a score: its scale, that of all scores, and log2(e)
    std::int32_t sum;
};

constexpr float kLog2E = 1.44269504088896341f;

SC_DEVICE float query_element(const Args& a, std::int64_t batch, std::int64_t head, int d) {
    return load_element(a.q.data, batch * a.q.batch_stride + head * a.q.head_stride + d * a.q.last_stride, a.type);
}

// The dimension at a place of a column, and -1 where there is none.
SC_DEVICE int whole_dimension(const Args& a, int place) { return place < a.width ? place : -1; }
SC_DEVICE int halved_dimension(const Args& a, int place) {
    const int half = (a.width + 1) / 2, in_half = place % (kWidth / 2), d = place / (kWidth / 2) * half + in_half;
    return in_half < half && d < a.width ? d : -1;
}

// Quantises one query, by a whole warp: symmetric, half to even, scale = max |q| / 16383, or 1 where that is 0. With an
// infinity or a NaN the scale is NaN and the integers are 0. `whole` or `halved` may be null.
SC_DEVICE QueryScale load_integers(const Args& a, std::int64_t batch, std::int64_t head, int query, IntegerColumns* whole,
                                   IntegerColumns* halved) {
    constexpr float kLimit = (1 << (kQueryBits - 1)) - 1;
    std::uint32_t largest = 0;  // magnitudes compare as their bits do, NaN above infinity
    for (int d = lane_index(); d < a.width; d += kWarpSize) {
        const std::uint32_t magnitude = float_bits(query_element(a, batch, head, d)) & 0x7fffffffu;
        largest = magnitude > largest ? magnitude : largest;
    }
SC_UNROLL
    for (int step = 1; step < kWarpSize; step *= 2) {
        const std::uint32_t other = shuffle_xor(largest, step);
        largest = other > largest ? other : largest;
    }
    const bool finite = largest < 0x7f800000u;
    const float quotient = bits_to_float(largest) / kLimit, scale = quotient == 0.0f ? 1.0f : quotient;
    const auto integer = [&](int d) {
        if (d < 0 || !finite) return 0;
        return static_cast<int>(fminf(fmaxf(rintf(query_element(a, batch, head, d) / scale), -kLimit), kLimit));
    };
    const auto put = [&](IntegerColumns& columns, int place, int value) {
        columns.byte[2 * query][place] = static_cast<std::uint8_t>(value >> 7);
        columns.byte[2 * query + 1][place] = static_cast<std::uint8_t>(value & 127);
    };
    std::int32_t sum = 0;
    for (int place = lane_index(); place < kWidth; place += kWarpSize) {
        const int value = integer(whole_dimension(a, place));
        sum += value;
        if (whole != nullptr) put(*whole, place, value);
        if (halved != nullptr) put(*halved, place, integer(halved_dimension(a, place)));
    }
SC_UNROLL
    for (int step = 1; step < kWarpSize; step *= 2) sum += shuffle_xor(sum, step);
    return {(finite ? scale : NAN) * a.scale * kLog2E, sum};
}

// Copies one query as it is, by a whole warp; zeros up to the end of the column.
template <class T, class Operand>
SC_DEVICE void load_dense(const Args& a, std::int64_t batch, std::int64_t head, int query, Operand& columns) {
    T* column = reinterpret_cast<T*>(columns.byte[query]);
    for (int d = lane_index(); d < kWidth; d += kWarpSize) {
        store(column + d, d < a.width ? query_element(a, batch, head, d) : 0.0f);
    }
}

}  // namespace sparsecore::cuda::decode
