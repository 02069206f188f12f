// Quantises new tokens as a store holds them (formats/bitplane.h) and writes them to its slots. One warp for each token of a
// key head, the key and then the value; the elements are read again where they are needed, from the first-level cache.
// A token whose slot or page is outside of the store is left out, as the host cannot look at positions on the device.
#pragma once

#include <cmath>

#include "cuda/attention/decode/bytes.h"
#include "cuda/attention/decode/places.h"
#include "cuda/attention/decode/store_args.h"

namespace sparsecore::cuda::decode {

constexpr int kAppendWarps = 4;

// Integers of one row: x / scale, half to even. With an infinity or a NaN the scale is NaN and the integers are 0.
struct QuantisedRow {
    const NewRows& from;
    std::int64_t first;
    float scale = 1.0f, limit = 0.0f;
    bool finite = true;

    SC_DEVICE float element(int d) const { return load_element(from.data, first + d * from.last_stride, from.type); }
    SC_DEVICE int integer(int d) const {
        if (!finite || d >= from.width) return 0;
        return static_cast<int>(fminf(fmaxf(rintf(element(d) / scale), -limit), limit));
    }
};

// By a whole warp.
SC_DEVICE QuantisedRow quantise(const NewRows& from, std::int64_t first) {
    QuantisedRow row{from, first};
    std::uint32_t largest = 0;  // magnitudes compare as their bits do, NaN above infinity
    for (int d = lane_index(); d < from.width; d += kWarpSize) {
        const std::uint32_t magnitude = float_bits(row.element(d)) & 0x7fffffffu;
        largest = magnitude > largest ? magnitude : largest;
    }
SC_UNROLL
    for (int step = 1; step < kWarpSize; step *= 2) {
        const std::uint32_t other = shuffle_xor(largest, step);
        largest = other > largest ? other : largest;
    }
    row.finite = largest < 0x7f800000u;
    row.limit = static_cast<float>((1 << (from.bits - 1)) - 1);
    const float quotient = bits_to_float(largest) / row.limit;
    if (quotient != 0.0f) row.scale = quotient;
    return row;
}

SC_DEVICE void store_scale(const NewRows& from, const QuantisedRow& row, const Place& place, std::int64_t kv_head) {
    if (lane_index() == 0) *reinterpret_cast<float*>(row_of(from.scale, place, kv_head)) = row.finite ? row.scale : NAN;
}

SC_DEVICE void store_dense(const NewRows& from, std::int64_t first, const Place& place, std::int64_t kv_head) {
    void* to = row_of(from.dense, place, kv_head);
    for (int d = lane_index(); d < from.width; d += kWarpSize) {
        store_element(to, d, from.stored_type, load_element(from.data, first + d * from.last_stride, from.type));
    }
}

// Two to a byte: elements d and d + ceil(width / 2).
template <class Element>
SC_DEVICE void store_nibbles(std::uint8_t* to, int width, const Element& element) {
    const int half = (width + 1) / 2;
    for (int d = lane_index(); d < half; d += kWarpSize) {
        const int high = d + half < width ? element(d + half) : 0;
        to[d] = static_cast<std::uint8_t>(element(d) | high << 4);
    }
}

SC_DEVICE void store_planes(const AppendArgs& a, const QuantisedRow& row, const Place& place, std::int64_t kv_head) {
    const KeyPlanes& planes = a.planes;
    const int width = row.from.width, first_shift = 4 + planes.rest_bits;
    std::uint8_t* first = row_of(planes.plane[0], place, kv_head);
    const auto high = [&](int d) { return (row.integer(d) >> first_shift) + planes.first_offset; };
    if (planes.first_offset == 8) {
        store_nibbles(first, width, high);
    } else {
        for (int d = lane_index(); d < width; d += kWarpSize) first[d] = static_cast<std::uint8_t>(high(d));
    }
    if (planes.rest_bits != 0) {
        const int mask = (1 << planes.rest_bits) - 1;
        store_nibbles(row_of(planes.plane[1], place, kv_head), width, [&](int d) { return row.integer(d) >> 4 & mask; });
    }
    store_nibbles(row_of(planes.plane[planes.planes - 1], place, kv_head), width, [&](int d) { return row.integer(d) & 15; });
}

SC_DEVICE std::int64_t first_of(const NewRows& from, std::int64_t batch, std::int64_t kv_head, std::int64_t token) {
    return batch * from.batch_stride + kv_head * from.head_stride + token * from.token_stride;
}

// Grid: any number of blocks of kAppendWarps warps (the rest is looped over).
static SC_GLOBAL void SC_BOUNDS(kAppendWarps * 32, 4) append_kernel(AppendArgs a) {
    const std::int64_t count = a.batch * a.kv_heads * a.tokens, step = static_cast<std::int64_t>(grid_dim_x()) * kAppendWarps;
    for (std::int64_t i = static_cast<std::int64_t>(block_x()) * kAppendWarps + warp_index(); i < count; i += step) {
        const std::int64_t token = i % a.tokens, kv_head = i / a.tokens % a.kv_heads, batch = i / a.tokens / a.kv_heads;
        const std::int64_t position = a.positions[batch * a.position_stride];
        if (position < 0 || position >= a.slots - token) continue;
        Place place;
        if (!find_place(a.paging, batch, position + token, place)) continue;
        const std::int64_t key = first_of(a.keys, batch, kv_head, token), value = first_of(a.values, batch, kv_head, token);
        if (a.keys.bits == 0) {
            store_dense(a.keys, key, place, kv_head);
        } else {
            const QuantisedRow row = quantise(a.keys, key);
            store_planes(a, row, place, kv_head);
            store_scale(a.keys, row, place, kv_head);
        }
        if (a.values.bits == 0) {
            store_dense(a.values, value, place, kv_head);
            continue;
        }
        const QuantisedRow row = quantise(a.values, value);
        auto* to = reinterpret_cast<std::int8_t*>(row_of(a.values.dense, place, kv_head));
        for (int d = lane_index(); d < a.values.width; d += kWarpSize) to[d] = static_cast<std::int8_t>(row.integer(d));
        store_scale(a.values, row, place, kv_head);
    }
}

}  // namespace sparsecore::cuda::decode
