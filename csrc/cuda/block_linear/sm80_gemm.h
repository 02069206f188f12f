// Block-sparse linear layer for many tokens (sm_80 and later), by mma on tiles that a ring of asynchronous copies brings.
//
// A block of threads computes one band of 128 rows x 128 tokens. It walks the band's steps, 32 columns at a time; each warp multiplies all
// rows that keep a block there by 32 tokens of its own, so that all tensor cores work however few rows that are.
// Floor: kept products over the peak. Two limits above it: shared memory, of which a warp reads 32 bytes a row and token for 16 x (rows + 32)
// elements (64 rows: 3/4 of 128 bytes a clock on A100; 32 rows: all of it), and L2, which brings 128 x 32 activations a step and
// has them used by only the rows kept there: 64 bytes a clock and SM at full rate for blocks of 32 rows that share no step, 32 for 64.
#pragma once

#include "cuda/block_linear/place.h"
#include "cuda/common/linear_io.h"
#include "cuda/ptx/async_copy.h"
#include "cuda/ptx/matrix.h"

namespace sparsecore::cuda::block {

constexpr int kGemmTokens = 128, kGemmThreads = 128, kGemmStages = 3;
constexpr int kSlice = 32;                                     // columns of a stage
constexpr int kSliceUnits = kSlice / kUnit;
constexpr int kRowTiles = kBandRows / kRowTile;
constexpr int kWarpTokens = 32, kWarpTokenTiles = kWarpTokens / 8;
constexpr int kThreadRows = kBandRows * kSliceUnits / kGemmThreads;  // rows of W, and of x, that a thread copies a unit of

struct alignas(128) GemmStage {
    std::uint16_t w[kBandRows][kSlice];
    std::uint16_t x[kGemmTokens][kSlice];
};

struct GemmShared {
    union {
        GemmStage stages[kGemmStages];
        std::uint16_t out[kGemmTokens][kBandRows + kUnit];  // the padding keeps the lanes' stores in different banks
    };
    std::uint32_t tiles[kGemmStages];  // the row tiles that a stage has weights of
};

using GemmSums = float[kRowTiles][kWarpTokenTiles][4];

// Rows of 64 bytes: two of them fill all banks.
SC_DEVICE int slice_place(int row, int unit) { return (unit ^ (row / 2 % kSliceUnits)) * kUnit; }

// The block row that row `own` of the band belongs to, or -1.
SC_DEVICE std::int64_t block_row_of(const BlockArgs& a, std::int64_t band, int own) {
    return a.band_rows[band * (kBandRows / a.height) + own / a.height];
}

// What a thread copies: one unit of kThreadRows rows of W and of x, slice after slice.
struct GemmWalk {
    std::int64_t first_step, slices;     // of the band
    std::int64_t next[kThreadRows];      // the next block of each row
    int width, in_step;                  // columns of a slice, and slices of a step

    SC_DEVICE GemmWalk(const BlockArgs& a, std::int64_t band) {
        width = a.width < kSlice ? a.width : kSlice;
        in_step = a.width / width;
        first_step = a.band_steps[band];
        slices = (a.band_steps[band + 1] - first_step) * in_step;
SC_UNROLL
        for (int i = 0; i < kThreadRows; ++i) {
            const std::int64_t block_row = block_row_of(a, band, row(i));
            next[i] = block_row < 0 ? 0 : a.row_offsets[block_row];
        }
    }
    SC_DEVICE static int row(int i) { return static_cast<int>(thread_x()) / kSliceUnits + i * (kGemmThreads / kSliceUnits); }
    SC_DEVICE static int unit() { return static_cast<int>(thread_x()) % kSliceUnits; }
};

SC_DEVICE void fetch_weights(const BlockArgs& a, GemmWalk& walk, GemmStage& stage, int in_step, std::uint32_t tiles) {
    const int unit = GemmWalk::unit();
SC_UNROLL
    for (int i = 0; i < kThreadRows; ++i) {
        const int row = GemmWalk::row(i);
        if ((tiles >> (row / kRowTile) & 1) == 0) continue;
        const std::uint16_t* values = a.values + walk.next[i] * a.height * a.width;
        const int place = unit_place(a.height, a.width, row % a.height, in_step * kSliceUnits + unit);
        if (unit * kUnit < walk.width) copy_async_16(&stage.w[row][slice_place(row, unit)], values + place, 16);
        if (in_step + 1 == walk.in_step) ++walk.next[i];
    }
}

SC_DEVICE void fetch_x(const BlockArgs& a, const GemmWalk& walk, GemmStage& stage, std::int64_t first_column,
                       std::int64_t first_token) {
    const int unit = GemmWalk::unit();
    if (unit * kUnit >= walk.width) return;
    const std::int64_t column = first_column + unit * kUnit;
SC_UNROLL
    for (int i = 0; i < kThreadRows; ++i) {
        const int own = GemmWalk::row(i);
        const std::int64_t token = first_token + own;
        std::uint16_t* to = &stage.x[own][slice_place(own, unit)];
        if (a.x_in_units) {
            const std::int64_t left = token < a.tokens ? a.cols - column : 0;
            const int elements = left <= 0 ? 0 : left < kUnit ? static_cast<int>(left) : kUnit;
            const auto* x = static_cast<const std::uint16_t*>(a.x);
            copy_async_16(to, elements > 0 ? x + token * a.x_token_stride + column : x, elements * 2);
        } else {
            for (int e = 0; e < kUnit; ++e) to[e] = load_element(a, token, column + e);
        }
    }
}

// Queues the copies of a slice, or none past the last: every call closes one group.
SC_DEVICE void fetch_slice(const BlockArgs& a, GemmWalk& walk, GemmShared& shared, std::int64_t slice, std::int64_t first_token) {
    if (slice < walk.slices) {
        const int number = static_cast<int>(slice % kGemmStages), in_step = static_cast<int>(slice % walk.in_step);
        const std::uint32_t step = a.steps[walk.first_step + slice / walk.in_step];
        const std::int64_t column = static_cast<std::int64_t>(step >> kStepTileBits) * a.width + in_step * kSlice;
        if (thread_x() == 0) shared.tiles[number] = step & kStepTiles;
        fetch_weights(a, walk, shared.stages[number], in_step, step);
        fetch_x(a, walk, shared.stages[number], column, first_token);
    }
    commit_copies();
}

template <class T>
SC_DEVICE void multiply_slice(const GemmStage& stage, std::uint32_t tiles, int width, GemmSums& sums) {
    const int warp = static_cast<int>(thread_x() / kWarpSize), lane = static_cast<int>(thread_x() % kWarpSize);
    std::uint32_t b[kWarpTokenTiles][4];
SC_UNROLL
    for (int n = 0; n < kWarpTokenTiles; ++n) {
        const int token = warp * kWarpTokens + n * 8 + lane % 8;
        load_matrix_x4(b[n], &stage.x[token][slice_place(token, lane / 8)]);
    }
SC_UNROLL
    for (int m = 0; m < kRowTiles; ++m) {
        if ((tiles >> m & 1) == 0) continue;
SC_UNROLL
        for (int k = 0; k < kSlice / 16; ++k) {
            if (k * 16 >= width) continue;
            const int row = m * kRowTile + lane % 16;
            std::uint32_t fragment[4];
            load_matrix_x4(fragment, &stage.w[row][slice_place(row, k * 2 + lane / 16)]);
SC_UNROLL
            for (int n = 0; n < kWarpTokenTiles; ++n) multiply<T>(sums[m][n], fragment, {b[n][k * 2], b[n][k * 2 + 1]});
        }
    }
}

// Bias and activation in fp32, one rounding, and the tile transposed in shared memory: results of a token lie together.
template <class T>
SC_DEVICE void stage_results(const BlockArgs& a, std::int64_t band, GemmShared& shared, const GemmSums& sums) {
    const int warp = static_cast<int>(thread_x() / kWarpSize), lane = static_cast<int>(thread_x() % kWarpSize);
SC_UNROLL
    for (int m = 0; m < kRowTiles; ++m) {
        const std::int64_t block_row = block_row_of(a, band, m * kRowTile);
        if (block_row < 0) continue;
SC_UNROLL
        for (int lower = 0; lower < 2; ++lower) {
            const int own = m * kRowTile + lower * 8 + lane / 4;
            const float bias = load_bias<T>(a, block_row * a.height + own % a.height);
SC_UNROLL
            for (int i = 0; i < kWarpTokenTiles * 2; ++i) {
                const int token = warp * kWarpTokens + i / 2 * 8 + lane % 4 * 2 + i % 2;
                const float sum = sums[m][i / 2][lower * 2 + i % 2] + bias;
                store(reinterpret_cast<T*>(&shared.out[token][own]), cuda::activate(sum, a.activation));
            }
        }
    }
}

SC_DEVICE void write_band(const BlockArgs& a, std::int64_t band, const GemmShared& shared, std::int64_t first_token) {
    constexpr int kUnits = kBandRows / kUnit;
    for (int i = static_cast<int>(thread_x()); i < kGemmTokens * kUnits; i += kGemmThreads) {
        const int token = i / kUnits, own = i % kUnits * kUnit;
        const std::int64_t block_row = block_row_of(a, band, own);
        if (block_row < 0) continue;
        write_unit(a, &shared.out[token][own], first_token + token, block_row * a.height + own % a.height);
    }
}

// Grid: x = bands, y = any number of blocks of 128 tokens (the rest is looped over). Block: kGemmThreads.
template <class T>
SC_GLOBAL void SC_BOUNDS(kGemmThreads, 2) sm80_gemm(BlockArgs a) {
    auto& shared = shared_memory<GemmShared>();
    const std::int64_t band = block_x(), blocks = (a.tokens + kGemmTokens - 1) / kGemmTokens;
    for (std::int64_t block = block_y(); block < blocks; block += grid_dim_y()) {
        const std::int64_t first_token = block * kGemmTokens;
        GemmWalk walk(a, band);
        GemmSums sums = {};
        for (int slice = 0; slice < kGemmStages - 1; ++slice) fetch_slice(a, walk, shared, slice, first_token);
        for (std::int64_t slice = 0; slice < walk.slices; ++slice) {
            wait_copies<kGemmStages - 2>();
            block_barrier();  // this stage is there for all, and all are done with the one that is filled next
            fetch_slice(a, walk, shared, slice + kGemmStages - 1, first_token);
            const int number = static_cast<int>(slice % kGemmStages);
            multiply_slice<T>(shared.stages[number], shared.tiles[number], walk.width, sums);
        }
        wait_copies<0>();
        block_barrier();
        stage_results<T>(a, band, shared, sums);
        block_barrier();
        write_band(a, band, shared, first_token);
        block_barrier();
    }
}

}  // namespace sparsecore::cuda::block
