// N:M weights made dense. Floor of every expanding kernel: the bytes of the dense weight written once, those of the sparse one read once.
#pragma once

#include "cuda/expand/word.h"
#include "cuda/nm_linear/byte_octets/place.h"
#include "cuda/nm_linear/gathered/args.h"
#include "cuda/nm_linear/kernel_args.h"
#include "cuda/nm_linear/octets/place.h"

namespace sparsecore::cuda::expand {

constexpr int kThreads = 256;

SC_DEVICE std::int64_t first_item() { return static_cast<std::int64_t>(block_x()) * kThreads + thread_x(); }
SC_DEVICE std::int64_t item_step() { return static_cast<std::int64_t>(grid_dim_x()) * kThreads; }

// Value and code (its position in the group) of kept value `slot` of a row, in the layout of nm_linear.h.
template <class Word>
struct ChunkSlots {
    SC_DEVICE static Word value(const ExpandArgs& a, std::int64_t row, std::int64_t slot) {
        return static_cast<const Word*>(a.values)[row * a.chunks * kChunk + slot];
    }
    SC_DEVICE static unsigned code(const ExpandArgs& a, std::int64_t row, std::int64_t slot) {
        const auto* codes = static_cast<const std::uint8_t*>(a.positions) + row * a.chunks * a.code_bits;
        const std::int64_t bit = slot * a.code_bits;
        return codes[bit / 8] >> (bit % 8) & ((1u << a.code_bits) - 1);
    }
};

// The same in the layout of nm_linear/octets.
struct OctetSlots {
    SC_DEVICE static OctetPlace place(const ExpandArgs& a, std::int64_t row, std::int64_t slot) {
        return octet_place(row, slot, a.chunks, static_cast<int>(a.first), static_cast<int>(a.second));
    }
    SC_DEVICE static std::uint16_t value(const ExpandArgs& a, std::int64_t row, std::int64_t slot) {
        const OctetPlace at = place(a, row, slot);
        return static_cast<const std::uint16_t*>(a.values)[at.lane * kOctetValues + at.index];
    }
    SC_DEVICE static unsigned code(const ExpandArgs& a, std::int64_t row, std::int64_t slot) {
        const OctetPlace at = place(a, row, slot);
        std::uint32_t codes = static_cast<const std::uint16_t*>(a.positions)[at.lane];
        if (a.extra != nullptr) codes |= std::uint32_t{static_cast<const std::uint8_t*>(a.extra)[at.lane]} << 16;
        return codes >> (at.index * a.code_bits) & ((1u << a.code_bits) - 1);
    }
};

// The same in the layout of nm_linear/byte_octets.
struct ByteOctetSlots {
    SC_DEVICE static OctetPlace place(const ExpandArgs& a, std::int64_t row, std::int64_t slot) {
        return byte_octet_place(row, slot, a.chunks, static_cast<int>(a.first), static_cast<int>(a.second));
    }
    SC_DEVICE static std::uint8_t value(const ExpandArgs& a, std::int64_t row, std::int64_t slot) {
        const OctetPlace at = place(a, row, slot);
        return static_cast<const std::uint8_t*>(a.values)[at.lane * kByteOctetValues + at.index];
    }
    SC_DEVICE static unsigned code(const ExpandArgs& a, std::int64_t row, std::int64_t slot) {
        const int n = static_cast<int>(a.first), m = static_cast<int>(a.second);
        const OctetPlace at = place(a, row, slot), third = third_bit_place(row, slot, a.chunks, n, m);
        const unsigned two = static_cast<const std::uint32_t*>(a.positions)[at.lane] >> code_bit(at.index) & 3u;
        if (m == 4) return two;
        return join_code(two, static_cast<const std::uint16_t*>(a.extra)[third.lane] >> third_code_bit(third.index) & 1u, n, m);
    }
};

// The same in the layout of nm_linear/two_four, where a tile row keeps 16 values in each of two halves.
struct TwoFourSlots {
    SC_DEVICE static std::int64_t half_tile(const ExpandArgs& a, std::int64_t row, std::int64_t slot) {
        return (row / kTileRows * a.chunks + slot / 32) * 2 + slot / 16 % 2;
    }
    SC_DEVICE static std::uint16_t value(const ExpandArgs& a, std::int64_t row, std::int64_t slot) {
        const std::int64_t lane = row % 8 * 4 + slot % 8 / 2, index = (slot % 16 / 8 * 2 + row % kTileRows / 8) * 2 + slot % 2;
        return static_cast<const std::uint16_t*>(a.values)[(half_tile(a, row, slot) * 32 + lane) * 8 + index];
    }
    SC_DEVICE static unsigned code(const ExpandArgs& a, std::int64_t row, std::int64_t slot) {
        const std::int64_t half = half_tile(a, row, slot), lane = row % 8 * 4 + half % 2 * 2 + slot % 16 / 8;
        const std::uint32_t metadata = static_cast<const std::uint32_t*>(a.positions)[half / 2 * kTileMetadataWords + lane];
        return metadata >> (row % kTileRows / 8 * 16 + slot % 8 * 2) & 3u;
    }
};

// The same in the layout of nm_linear/int8, where it keeps 32 bytes in each.
struct TwoFourByteSlots {
    SC_DEVICE static std::int64_t half_tile(const ExpandArgs& a, std::int64_t row, std::int64_t slot) {
        return (row / kTileRows * a.chunks + slot / 64) * 2 + slot / 32 % 2;
    }
    SC_DEVICE static std::uint8_t value(const ExpandArgs& a, std::int64_t row, std::int64_t slot) {
        const std::int64_t lane = row % 8 * 4 + slot % 16 / 4, index = (slot % 32 / 16 * 2 + row % kTileRows / 8) * 4 + slot % 4;
        return static_cast<const std::uint8_t*>(a.values)[(half_tile(a, row, slot) * 32 + lane) * 16 + index];
    }
    SC_DEVICE static unsigned code(const ExpandArgs& a, std::int64_t row, std::int64_t slot) {
        const std::int64_t lane = row % 8 * 4 + slot % 32 / 16 * 2 + row % kTileRows / 8;
        return static_cast<const std::uint32_t*>(a.positions)[half_tile(a, row, slot) * 32 + lane] >> (slot % 16 * 2) & 3u;
    }
};

// The same in the layout of nm_linear/gathered: codes say which of the four columns that a block of rows chose from a group.
struct GatheredSlots : TwoFourSlots {
    SC_DEVICE static unsigned code(const ExpandArgs& a, std::int64_t row, std::int64_t slot) {
        const auto* chosen = static_cast<const std::uint16_t*>(a.extra) + row / a.block_rows * a.chunks * kTileGroups;
        return chosen[slot / 2] >> (4 * TwoFourSlots::code(a, row, slot)) & 15u;
    }
};

// A thread writes one group of m columns, whose positions ascend; neighbours write neighbouring groups.
template <class Word, class Slots>
SC_GLOBAL void SC_BOUNDS(kThreads, 2) expand_groups(ExpandArgs a) {
    const std::int64_t groups = (a.cols + a.second - 1) / a.second;
    for (std::int64_t item = first_item(); item < a.rows * groups; item += item_step()) {
        const std::int64_t row = item / groups, group = item % groups, column = group * a.second;
        const std::int64_t width = a.cols - column < a.second ? a.cols - column : a.second;
        std::int64_t slot = group * a.first;
        const std::int64_t end = slot + (width < a.first ? width : a.first);
        for (std::int64_t i = 0; i < width; ++i) {
            const bool is_kept = slot < end && Slots::code(a, row, slot) == i;
            static_cast<Word*>(a.out)[row * a.cols + column + i] = is_kept ? kept<Word>(a, Slots::value(a, row, slot)) : pruned<Word>(a);
            slot += is_kept;
        }
    }
}

}  // namespace sparsecore::cuda::expand
