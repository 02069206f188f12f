// Unstructured weights made dense.
#pragma once

#include "cuda/bitmask_linear/tile.h"
#include "cuda/expand/nm.h"

namespace sparsecore::cuda::expand {

// A warp writes one tile of 16 rows x 64 columns; the four lanes of a row write 32 neighbouring elements of it in turn.
template <class Word>
SC_GLOBAL void SC_BOUNDS(kThreads, 2) expand_bitmask(ExpandArgs a) {
    using bitmask::kMaskWords, bitmask::kQuads, bitmask::kStartBytes, bitmask::Quad, bitmask::TileMask, bitmask::find_quad;
    constexpr int kRows = bitmask::kTileRows, kColumns = bitmask::kTileColumns;
    const int lane = static_cast<int>(thread_x() % kWarpSize);
    const std::int64_t column_tiles = (a.cols + kColumns - 1) / kColumns;
    const std::int64_t tiles = (a.rows + kRows - 1) / kRows * column_tiles;
    const auto* starts = static_cast<const std::uint32_t*>(a.extra);
    for (std::int64_t tile = first_item() / kWarpSize; tile < tiles; tile += item_step() / kWarpSize) {
        const TileMask mask = bitmask::count_mask(static_cast<const std::uint32_t*>(a.positions)[tile * kMaskWords + lane]);
        const Word* values = static_cast<const Word*>(a.values) + std::int64_t{starts[tile]} * (kStartBytes / sizeof(Word));
        const std::int64_t row = tile / column_tiles * kRows + lane / 4;
        const std::int64_t column = tile % column_tiles * kColumns + lane % 4 * 16;
        for (int q = 0; q < kQuads; ++q) {
            const Quad quad = find_quad(mask, q);
            const Word* next = values + quad.first;
            Word element[4];
SC_UNROLL
            for (int i = 0; i < 4; ++i) element[i] = (quad.kept >> i & 1) != 0 ? kept<Word>(a, *next++) : pruned<Word>(a);
            write_quad<Word>(a, row + q % 2 * 8, column + q / 2 * 4, element);
        }
    }
}

}  // namespace sparsecore::cuda::expand
