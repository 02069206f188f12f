// Four columns of a group of 8 or 16, as the products of a gathered weight take them from x.
#pragma once

#include "cuda/common/linear_io.h"
#include "cuda/nm_linear/gathered/args.h"
#include "cuda/ptx/bits.h"

namespace sparsecore::cuda {

// Picks the chosen columns out of any token's group. For each word of two columns: which halves of a pair of words, of which pair,
// and (groups of 16) of which unit.
template <int kGroup>
struct Picker {
    std::uint32_t halves[2], pair[2], unit[2];

    // Bytes of two halves of (low, high), each 0 to 3.
    static SC_DEVICE std::uint32_t of_pair(std::uint32_t first, std::uint32_t second) {
        return (0x10u + 0x22u * first) | (0x10u + 0x22u * second) << 8;
    }
    // First half of word `first`, second half of word `second`, each 0 or 1.
    static SC_DEVICE std::uint32_t of_words(std::uint32_t first, std::uint32_t second) {
        return (0x10u + 0x44u * first) | (0x32u + 0x44u * second) << 8;
    }

    explicit SC_DEVICE Picker(std::uint32_t chosen) {
SC_UNROLL
        for (int i = 0; i < 2; ++i) {
            const std::uint32_t first = chosen >> (8 * i) & 15u, second = chosen >> (8 * i + 4) & 15u;
            halves[i] = of_pair(first & 3u, second & 3u);
            pair[i] = of_words(first >> 2 & 1u, second >> 2 & 1u);
            unit[i] = of_words(first >> 3, second >> 3);
        }
    }

    SC_DEVICE std::uint32_t pick_word(const Words4& from, int i) const {
        const std::uint32_t low = choose_bytes(from.word[0], from.word[1], halves[i]);
        return choose_bytes(low, choose_bytes(from.word[2], from.word[3], halves[i]), pair[i]);
    }

    SC_DEVICE Words2 pick(const Words4 (&group)[kGroup / kUnit]) const {
        Words2 picked;
SC_UNROLL
        for (int i = 0; i < 2; ++i) {
            picked.word[i] = pick_word(group[0], i);
            if constexpr (kGroup == 16) picked.word[i] = choose_bytes(picked.word[i], pick_word(group[1], i), unit[i]);
        }
        return picked;
    }
};

template <int kGroup>
SC_DEVICE void load_group(const LinearArgs& a, std::int64_t token, std::int64_t group, Words4 (&units)[kGroup / kUnit]) {
SC_UNROLL
    for (int i = 0; i < kGroup / kUnit; ++i) units[i] = load_unit(a, token, group * kGroup + i * kUnit);
}

// The chosen columns of group `group` for the block of rows that holds `row_tile`; any, beyond the last column tile.
SC_DEVICE std::uint32_t chosen_of(const GatheredArgs& a, std::int64_t row_tile, std::int64_t group) {
    const std::int64_t groups = a.column_tiles * kTileGroups;
    // Two blocks of rows may be computed together, of which the weight has only the first: its columns serve both.
    const std::int64_t block = (row_tile < a.row_tiles ? row_tile : a.row_tiles - 1) * kTileRows / a.block_rows;
    return group < groups ? a.chosen[block * groups + group] : 0;
}

}  // namespace sparsecore::cuda
