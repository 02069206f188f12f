// Block-sparse weights made dense.
#pragma once

#include "cuda/block_linear/place.h"
#include "cuda/expand/nm.h"

namespace sparsecore::cuda::expand {

// The block of a block row at block column `column`, or -1: binary search in the ascending columns.
SC_DEVICE std::int64_t find_block(const ExpandArgs& a, std::int64_t block_row, std::int64_t column) {
    const auto* columns = static_cast<const std::int32_t*>(a.positions);
    const auto* offsets = static_cast<const std::int64_t*>(a.extra);
    std::int64_t first = offsets[block_row], end = offsets[block_row + 1];
    while (first < end) {
        const std::int64_t middle = first + (end - first) / 2;
        if (columns[middle] < column) {
            first = middle + 1;
        } else {
            end = middle;
        }
    }
    return first < offsets[block_row + 1] && columns[first] == column ? first : -1;
}

// A thread writes eight columns of a row, looking for each block that they touch. kTiled: blocks in the order of block_linear/place.h.
template <class Word, bool kTiled>
SC_GLOBAL void SC_BOUNDS(kThreads, 2) expand_blocks(ExpandArgs a) {
    const std::int64_t units = (a.cols + kUnit - 1) / kUnit;
    const auto height = static_cast<int>(a.first), width = static_cast<int>(a.second);
    for (std::int64_t item = first_item(); item < a.rows * units; item += item_step()) {
        const std::int64_t row = item / units;
        const int y = static_cast<int>(row % height);
        std::int64_t found = -1, at = -1;
        for (std::int64_t c = item % units * kUnit; c < a.cols && c < item % units * kUnit + kUnit; ++c) {
            if (c / width != at) {
                at = c / width;
                found = find_block(a, row / height, at);
            }
            Word& out = static_cast<Word*>(a.out)[row * a.cols + c];
            if (found < 0) {
                out = pruned<Word>(a);
                continue;
            }
            const int x = static_cast<int>(c % width);
            const std::int64_t place = kTiled ? block::unit_place(height, width, y, x / kUnit) + x % kUnit
                                              : static_cast<std::int64_t>(y) * width + x;
            out = kept<Word>(a, static_cast<const Word*>(a.values)[found * height * width + place]);
        }
    }
}

}  // namespace sparsecore::cuda::expand
