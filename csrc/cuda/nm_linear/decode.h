// Linear layer for few tokens on weights in tiles of 16 rows (sm_80 and later), whatever their pattern:
// out[t, r] = act(sum over kept j of value[r, j] x[t, column(r, j)] + bias[r]).
//
// Floor: the bytes of the weight over the bandwidth; an H200 brings 4.3 TB/s, 18 bytes a clock and SM. How the kernel gets near it:
//   - A byte of the weight is read once, by one lane, in pieces of 16 consecutive ones, 512 a warp.
//   - By Little's law 33 bytes/ns for about a microsecond of latency are 33 KB in flight on each SM. A lane keeps Tiles::kDepth tiles of
//     two row tiles in registers ahead of the products: 8 warps x kDepth x 1.2 to 2.3 KB are 38 KB (octets) and 55 KB (2:4) of a block,
//     and two blocks fit an SM.
//   - Tensor cores multiply 8 tokens at once, so that 16 tokens cost two products in place of one and no byte more. The two row tiles
//     of a warp share each fragment of activations.
//   - Activations come to shared memory in two stages of kDepth tiles for each warp, for all rows of the block. This traffic of the L2
//     cache is that of the weight times tokens / rows of a block, so more tokens have blocks of more rows: 32, 64 or 128.
// A block's warps divide rows and columns; sums over columns are added in a fixed order, within a block and by sum_splits across
// blocks, so the result does not depend on scheduling.
//
// Tiles, the layout's part, says how a lane holds a tile and multiplies it:
//   Args, kColumns of a tile, kDepth, kPadding (elements that keep rows of activations in different banks),
//   Sum, Results (what becomes of a sum: FloatResults, or int8/results.h),
//   kMultipliesZeros (products touch pruned positions: infinities and NaNs of an Element are then replaced by zeros as x
//   comes, and added apart by Tiles::add_unusual, for which nothing is fast),
//   fetch(args, row tile, to, token, column): brings 8 columns of activations, those of the weight,
//   RowTile (where a row tile lies), row_tile(args, index), Tile load(row tile, column tile),
//   multiply(tiles of two row tiles, activations of a lane's tokens, sums).
#pragma once

#include "cuda/nm_linear/activations.h"
#include "cuda/nm_linear/tile_args.h"

namespace sparsecore::cuda {

constexpr int kDecodeWarps = 8, kDecodeThreads = kDecodeWarps * kWarpSize;
constexpr int kFragmentTokens = 8;  // columns of fragment B
constexpr int kDecodeRowTiles = 2;  // of a warp
constexpr int kDecodeStages = 2;

// Sizes of a block for up to kTokens (4, 8, 16) tokens at a time.
template <class Tiles, int kTokens>
struct DecodeShape {
    static constexpr int kTokenTiles = (kTokens + kFragmentTokens - 1) / kFragmentTokens;
    static constexpr int kRowWarps = kTokens / 4, kColumnWarps = kDecodeWarps / kRowWarps;
    static constexpr int kRowTiles = kRowWarps * kDecodeRowTiles, kRows = kRowTiles * kTileRows;
    static constexpr int kChunkTiles = kColumnWarps * Tiles::kDepth, kChunkColumns = kChunkTiles * Tiles::kColumns;
    static constexpr int kStride = kChunkColumns + Tiles::kPadding, kUnits = kChunkColumns / kUnit;

    struct Shared {
        union {
            alignas(16) std::uint16_t x[kDecodeStages][kTokens][kStride];
            typename Tiles::Sum sums[kDecodeWarps][kDecodeRowTiles][kTokenTiles][kTileRows][kFragmentTokens];
        };
        bool unusual;  // x of this block holds an infinity or a NaN
    };
};

// Sums in fp32, results of type T.
template <class T>
struct FloatResults {
    using Args = LinearArgs;
    using Sum = float;
    static SC_DEVICE void store(const Args& a, std::int64_t token, std::int64_t row, Sum sum) { store_result<T>(a, token, row, sum); }
};

// What a block computes: its rows for token_count tokens, from column tiles that it takes chunk by chunk.
struct DecodePart {
    std::int64_t first_row_tile, first_token, first_tile, end_tile;
    int token_count;
};

template <class Tiles, int kTokens>
SC_DEVICE void fetch_chunk(const typename Tiles::Args& a, typename DecodeShape<Tiles, kTokens>::Shared& shared, const DecodePart& part, int chunk) {
    using Shape = DecodeShape<Tiles, kTokens>;
    const std::int64_t first_tile = part.first_tile + static_cast<std::int64_t>(chunk) * Shape::kChunkTiles;
    if (first_tile < part.end_tile) {
        auto& stage = shared.x[chunk % kDecodeStages];
        for (int i = static_cast<int>(thread_x()); i < part.token_count * Shape::kUnits; i += kDecodeThreads) {
            const int token = i / Shape::kUnits, column = i % Shape::kUnits * kUnit;
            Tiles::fetch(a, part.first_row_tile, &stage[token][column], part.first_token + token, first_tile * Tiles::kColumns + column);
        }
    }
    commit_copies();
}

// Whether one of two elements is infinite or NaN: adding one to an exponent of all ones carries into the sign's place.
template <class T>
SC_DEVICE bool has_unusual(std::uint32_t pair) {
    constexpr std::uint32_t kExponent = T::kBrain ? 0x7f807f80u : 0x7c007c00u, kOne = T::kBrain ? 0x00800080u : 0x04000400u;
    return (((pair & kExponent) + kOne) & 0x80008000u) != 0;
}

template <class T>
SC_DEVICE bool is_unusual(std::uint16_t bits) {
    return has_unusual<T>(bits);
}

// Replaces infinities and NaNs of what this thread has fetched by zeros, and remembers that there were some.
template <class Tiles, int kTokens>
SC_DEVICE void take_out_unusual(typename DecodeShape<Tiles, kTokens>::Shared& shared, const DecodePart& part, int chunk) {
    using T = typename Tiles::Element;
    constexpr int kUnits = DecodeShape<Tiles, kTokens>::kUnits;
    auto& stage = shared.x[chunk % kDecodeStages];
    for (int i = static_cast<int>(thread_x()); i < part.token_count * kUnits; i += kDecodeThreads) {
        std::uint16_t* unit = &stage[i / kUnits][i % kUnits * kUnit];
        const Words4 words = *reinterpret_cast<const Words4*>(unit);
        const bool found = has_unusual<T>(words.word[0]) || has_unusual<T>(words.word[1]) ||
                           has_unusual<T>(words.word[2]) || has_unusual<T>(words.word[3]);
        if (!found) continue;
        shared.unusual = true;
        for (int e = 0; e < kUnit; ++e) {
            if (is_unusual<T>(unit[e])) unit[e] = 0;
        }
    }
}

// The products of one warp. Its tile d of a chunk is column tile d * kColumnWarps + (its place among the warps of its rows).
template <class Tiles, int kTokens>
SC_DEVICE void multiply_part(const typename Tiles::Args& a, typename DecodeShape<Tiles, kTokens>::Shared& shared,
                             const DecodePart& part,
                             typename Tiles::Sum (&sums)[kDecodeRowTiles][DecodeShape<Tiles, kTokens>::kTokenTiles][4]) {
    using Shape = DecodeShape<Tiles, kTokens>;
    const int warp = static_cast<int>(thread_x() / kWarpSize);
    const std::int64_t row_tile = part.first_row_tile + warp % Shape::kRowWarps * kDecodeRowTiles;
    const bool has_rows = row_tile < a.row_tiles;
    typename Tiles::RowTile rows[kDecodeRowTiles];
SC_UNROLL
    for (int i = 0; i < kDecodeRowTiles; ++i) {  // a row tile outside the weight repeats the last one; what it gives is not stored
        rows[i] = Tiles::row_tile(a, row_tile + i < a.row_tiles ? row_tile + i : a.row_tiles - 1);
    }
    typename Tiles::Tile ahead[Tiles::kDepth][kDecodeRowTiles] = {};
    const auto load = [&](int d, std::int64_t tile) {
        if (!has_rows || tile >= part.end_tile) return;
SC_UNROLL
        for (int i = 0; i < kDecodeRowTiles; ++i) ahead[d][i] = Tiles::load(rows[i], static_cast<std::uint32_t>(tile));
    };
    std::int64_t first = part.first_tile + warp / Shape::kRowWarps;
SC_UNROLL
    for (int d = 0; d < Tiles::kDepth; ++d) load(d, first + d * Shape::kColumnWarps);
    const int chunks = static_cast<int>((part.end_tile - part.first_tile + Shape::kChunkTiles - 1) / Shape::kChunkTiles);
    for (int chunk = 0; chunk < chunks; ++chunk, first += Shape::kChunkTiles) {
        wait_copies<0>();
        if constexpr (Tiles::kMultipliesZeros) take_out_unusual<Tiles, kTokens>(shared, part, chunk);
        block_barrier();  // this chunk is there for all, and all are done with the one before
        fetch_chunk<Tiles, kTokens>(a, shared, part, chunk + 1);
        const std::uint16_t* x = &shared.x[chunk % kDecodeStages][0][warp / Shape::kRowWarps * Tiles::kColumns];
SC_UNROLL
        for (int d = 0; d < Tiles::kDepth; ++d) {
            const std::int64_t tile = first + d * Shape::kColumnWarps;
            if (has_rows && tile < part.end_tile) {
                Tiles::template multiply<kTokens, Shape::kStride>(ahead[d], x + d * Shape::kColumnWarps * Tiles::kColumns, sums);
            }
            load(d, tile + Shape::kChunkTiles);
        }
    }
}

// Adds the sums of the warps that divided the columns, in their order, and writes the results or this block's share of them.
template <class Tiles, int kTokens>
SC_DEVICE void write_part(const typename Tiles::Args& a, const typename DecodeShape<Tiles, kTokens>::Shared& shared,
                          const DecodePart& part) {
    using Shape = DecodeShape<Tiles, kTokens>;
    using Sum = typename Tiles::Sum;
    for (int i = static_cast<int>(thread_x()); i < part.token_count * Shape::kRows; i += kDecodeThreads) {
        const int own = i % Shape::kRows, own_token = i / Shape::kRows, own_tile = own / kTileRows;
        const std::int64_t row = part.first_row_tile * kTileRows + own, token = part.first_token + own_token;
        if (row >= a.rows) continue;
        Sum sum = 0;
        for (int w = own_tile / kDecodeRowTiles; w < kDecodeWarps; w += Shape::kRowWarps) {
            sum += shared.sums[w][own_tile % kDecodeRowTiles][own_token / kFragmentTokens][own % kTileRows][own_token % kFragmentTokens];
        }
        if constexpr (Tiles::kMultipliesZeros) {
            if (shared.unusual) sum = Tiles::add_unusual(a, row, token, part.first_tile, part.end_tile, sum);
        }
        if (a.plan.splits > 1) {
            static_cast<Sum*>(a.plan.partial)[(static_cast<std::int64_t>(block_z()) * a.tokens + token) * a.rows + row] = sum;
            continue;
        }
        Tiles::Results::store(a, token, row, sum);
    }
}

template <class Tiles, int kTokens>
SC_DEVICE void decode_part(const typename Tiles::Args& a, typename DecodeShape<Tiles, kTokens>::Shared& shared,
                           const DecodePart& part) {
    constexpr int kTokenTiles = DecodeShape<Tiles, kTokens>::kTokenTiles;
    const int warp = static_cast<int>(thread_x() / kWarpSize), lane = static_cast<int>(thread_x() % kWarpSize);
    if (thread_x() == 0) shared.unusual = false;
    block_barrier();
    fetch_chunk<Tiles, kTokens>(a, shared, part, 0);
    typename Tiles::Sum sums[kDecodeRowTiles][kTokenTiles][4] = {};
    multiply_part<Tiles, kTokens>(a, shared, part, sums);
    wait_copies<0>();
    block_barrier();  // the sums take the place of the activations
SC_UNROLL
    for (int i = 0; i < kDecodeRowTiles; ++i) {
SC_UNROLL
        for (int j = 0; j < kTokenTiles; ++j) {
SC_UNROLL
            for (int r = 0; r < 4; ++r) shared.sums[warp][i][j][lane / 4 + r / 2 * 8][lane % 4 * 2 + r % 2] = sums[i][j][r];
        }
    }
    block_barrier();
    write_part<Tiles, kTokens>(a, shared, part);
    block_barrier();
}

// Grid: x = blocks of DecodeShape::kRows rows, y = any number of token blocks (the rest is looped over), z = splits.
// Block: kDecodeThreads.
template <class Tiles, int kTokens>
SC_GLOBAL void SC_BOUNDS(kDecodeThreads, 2) nm_decode(typename Tiles::Args a) {
    auto& shared = shared_memory<typename DecodeShape<Tiles, kTokens>::Shared>();
    const std::int64_t share = (a.column_tiles + a.plan.splits - 1) / a.plan.splits, first = block_z() * share;
    DecodePart part{};
    part.first_row_tile = static_cast<std::int64_t>(block_x()) * DecodeShape<Tiles, kTokens>::kRowTiles;
    part.first_tile = first < a.column_tiles ? first : a.column_tiles;
    part.end_tile = first + share < a.column_tiles ? first + share : a.column_tiles;
    for (std::int64_t block = block_y(); block * kTokens < a.tokens; block += grid_dim_y()) {
        part.first_token = block * kTokens;
        part.token_count = a.tokens - part.first_token < kTokens ? static_cast<int>(a.tokens - part.first_token) : kTokens;
        decode_part<Tiles, kTokens>(a, shared, part);
    }
}

// Adds the shares of the splits in their order. Grid: x = any number of blocks (the rest is looped over), of kDecodeThreads.
template <class Results>
SC_GLOBAL void sum_splits(typename Results::Args a, DecodePlan plan) {
    const std::int64_t count = a.tokens * a.rows, step = static_cast<std::int64_t>(grid_dim_x()) * kDecodeThreads;
    for (std::int64_t i = static_cast<std::int64_t>(block_x()) * kDecodeThreads + thread_x(); i < count; i += step) {
        typename Results::Sum sum = 0;
        for (int split = 0; split < plan.splits; ++split) sum += static_cast<const typename Results::Sum*>(plan.partial)[split * count + i];
        Results::store(a, i / a.rows, i % a.rows, sum);
    }
}

}  // namespace sparsecore::cuda
