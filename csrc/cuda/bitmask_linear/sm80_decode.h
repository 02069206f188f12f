// Unstructured sparse linear layer for few tokens (sm_80 and later): the weight is loaded sparse and multiplied dense.
//
// Floor: bytes over bandwidth, 2d + 1/8 a dense element at density d (0.5: 1.78 times fewer than dense bf16). Each warp takes every
// kFewWarps-th tile of its 16 rows and has a ring of its own in shared memory for their values, which arrive in consecutive pieces of
// 512 bytes; masks come to the lanes directly. The limit above the floor is instructions: about 170 a warp for a tile of 1024 positions,
// 42 clocks of an SM, whatever the density; that is twice what dense weights take to arrive on an H200 (2048 bytes at 19 a clock), so
// at d under 0.35 the gain stays near 2.4 instead of following the bytes.
//
// mma multiplies zeros where nothing is kept. That is exact but for an infinity or NaN in x, which shows as a sum that is not finite:
// such sums are computed again over the kept positions alone.
#pragma once

#include "cuda/bitmask_linear/tile.h"
#include "cuda/common/decode_sums.h"
#include "cuda/ptx/async_copy.h"
#include "cuda/ptx/matrix.h"

namespace sparsecore::cuda::bitmask {

constexpr int kStages = 3;

template <int kTokenTiles>
union DecodeShared {
    alignas(16) std::uint16_t values[kFewWarps][kStages][kTileElements];
    DecodeSums<1, kTokenTiles> sums;
};

using WarpRing = std::uint16_t[kStages][kTileElements];

// Queues the copy of a tile's values, or nothing past the last: every call closes one group.
SC_DEVICE void fetch_values(const BitmaskArgs& a, WarpRing& ring, std::int64_t row_tile, std::int64_t column_tile, int stage) {
    if (column_tile < a.column_tiles) {
        const std::int64_t tile = row_tile * a.column_tiles + column_tile;
        const std::uint32_t start = a.starts[tile], count = a.starts[tile + 1] - start;
        const auto* from = static_cast<const unsigned char*>(a.values) + std::int64_t{start} * kStartBytes;
        for (std::uint32_t unit = thread_x() % kWarpSize; unit < count; unit += kWarpSize) {
            copy_async_16(&ring[stage][unit * kUnit], from + unit * kStartBytes, kStartBytes);
        }
    }
    commit_copies();
}

// The two words of a lane's quad: values where they are kept, zeros elsewhere.
SC_DEVICE void load_quad(const std::uint16_t* values, const Quad& quad, std::uint32_t& low, std::uint32_t& high) {
    std::uint32_t element[4];
    const std::uint16_t* next = values + quad.first;
SC_UNROLL
    for (int i = 0; i < 4; ++i) element[i] = (quad.kept >> i & 1) != 0 ? *next++ : 0u;
    low = element[0] | element[1] << 16;
    high = element[2] | element[3] << 16;
}

template <class T, int kTokenTiles>
SC_DEVICE void multiply_tile(const BitmaskArgs& a, const std::uint16_t* values, std::uint32_t mask_word, std::int64_t column_tile,
                             std::int64_t token, float (&sums)[1][kTokenTiles][4]) {
    const int lane = static_cast<int>(thread_x() % kWarpSize);
    const TileMask mask = count_mask(mask_word);
    Words4 x[kTokenTiles][2];
SC_UNROLL
    for (int i = 0; i < kTokenTiles * 2; ++i) {
        const std::int64_t column = column_tile * kTileColumns + lane % 4 * 16 + i % 2 * kUnit;
        x[i / 2][i % 2] = load_unit(a, token + i / 2 * kTokenTile + lane / 4, column);
    }
SC_UNROLL
    for (int j = 0; j < kQuads / 2; ++j) {
        std::uint32_t fragment[4];
        load_quad(values, find_quad(mask, 2 * j), fragment[0], fragment[2]);
        load_quad(values, find_quad(mask, 2 * j + 1), fragment[1], fragment[3]);
SC_UNROLL
        for (int n = 0; n < kTokenTiles; ++n) {
            const Words4& unit = x[n][j / 2];
            multiply<T>(sums[0][n], fragment, {unit.word[j % 2 * 2], unit.word[j % 2 * 2 + 1]});
        }
    }
}

// The sum of one row over its kept positions, by one thread.
template <class T>
SC_DEVICE float exact_sum(const BitmaskArgs& a, std::int64_t row, std::int64_t token) {
    const int g = static_cast<int>(row % 8), lower = static_cast<int>(row % kTileRows / 8), shift = g % 2 * 16;
    float sum = 0.0f;
    for (std::int64_t column_tile = 0; column_tile < a.column_tiles; ++column_tile) {
        const std::int64_t tile = row / kTileRows * a.column_tiles + column_tile;
        const T* values = static_cast<const T*>(a.values) + std::int64_t{a.starts[tile]} * (kStartBytes / sizeof(T));
        int before = 0;
        for (int w = 0; w < kMaskWords; ++w) {
            const std::uint32_t word = a.masks[tile * kMaskWords + w];
            // Words of the quad's rows, and in them the 16 bits of the row's four lanes.
            const bool is_own = w / 4 % 2 == lower && w % 4 == g / 2;
            const T* next = values + before + count_bits(word & ((1u << shift) - 1));
            for (int bit = 0; is_own && bit < 16; ++bit) {
                if ((word >> (shift + bit) & 1) == 0) continue;
                const std::int64_t column = column_tile * kTileColumns + bit / 4 * 16 + w / 8 * 4 + bit % 4;
                const T* x = static_cast<const T*>(a.x) + token * a.x_token_stride + column * a.x_column_stride;
                sum += to_float(*next++) * to_float(*x);
            }
            before += count_bits(word);
        }
    }
    return sum;
}

// Grid: x = row tiles, y = any number of token blocks (the rest is looped over). Block: kFewThreads.
template <class T, int kTokenTiles>
SC_GLOBAL void SC_BOUNDS(kFewThreads, 2) sm80_decode(BitmaskArgs a) {
    auto& shared = shared_memory<DecodeShared<kTokenTiles>>();
    const int warp = static_cast<int>(thread_x() / kWarpSize), lane = static_cast<int>(thread_x() % kWarpSize);
    constexpr int kTokens = kTokenTiles * kTokenTile;
    const std::int64_t row_tile = block_x();
    const std::uint32_t* masks = a.masks + row_tile * a.column_tiles * kMaskWords + lane;
    WarpRing& ring = shared.values[warp];
    for (std::int64_t token = block_y() * kTokens; token < a.tokens; token += grid_dim_y() * kTokens) {
        float sums[1][kTokenTiles][4] = {};
        for (int i = 0; i < kStages - 1; ++i) fetch_values(a, ring, row_tile, warp + i * kFewWarps, i);
        std::uint32_t next_word = warp < a.column_tiles ? masks[warp * kMaskWords] : 0u;
        int stage = 0;
        for (std::int64_t tile = warp; tile < a.column_tiles; tile += kFewWarps, stage = (stage + 1) % kStages) {
            const std::uint32_t word = next_word;
            if (tile + kFewWarps < a.column_tiles) next_word = masks[(tile + kFewWarps) * kMaskWords];
            wait_copies<kStages - 2>();
            warp_barrier();  // all lanes' copies are there, and all are done with the stage that is filled next
            fetch_values(a, ring, row_tile, tile + (kStages - 1) * kFewWarps, (stage + kStages - 1) % kStages);
            multiply_tile<T, kTokenTiles>(a, ring[stage], word, tile, token, sums);
        }
        wait_copies<0>();
        block_barrier();  // the sums lie where the values were
        put_sums(shared.sums, sums);
        for_sums(shared.sums, [&](int own_row, int own_token, float sum) {
            const std::int64_t row = row_tile * kTileRows + own_row;
            if (row >= a.rows || token + own_token >= a.tokens) return;
            const bool is_finite = (float_bits(sum) & 0x7f800000u) != 0x7f800000u;
            store_result<T>(a, token + own_token, row, is_finite ? sum : exact_sum<T>(a, row, token + own_token));
        });
    }
}

}  // namespace sparsecore::cuda::bitmask
