// int8 2:4 tiles in the decode kernel (nm_linear/decode.h): mma.sp m16n8k64 on weights that are read once, 0.625 bytes a dense
// element (half a byte of values, an eighth of metadata), 3.2 times fewer than bf16.
//
// Activations are quantised by a launch before (quantise.h): within the kernel every block of rows would have to look for the largest
// element of all columns first, and an H200 has some 130 blocks of them. Sums are exact, so the bits are those of sm80_gemm.h. A tile has
// twice the columns of the 16-bit one in about its bytes, 1280, of which 61 KB are in flight for each block, and half its products.
#pragma once

#include "cuda/nm_linear/decode.h"
#include "cuda/nm_linear/int8/decode_args.h"
#include "cuda/nm_linear/int8/layout.h"
#include "cuda/nm_linear/int8/weight_tiles.h"
#include "cuda/ptx/matrix.h"
#include "cuda/ptx/matrix_int8.h"

namespace sparsecore::cuda {

struct Int8Tiles : OwnColumns, ByteWeightTiles {
    using Args = Int8DecodeArgs;
    using Results = ScaledResults;
    using Sum = Results::Sum;
    static constexpr int kColumns = kInt8TileColumns / 2, kDepth = 3, kPadding = kUnit;  // of two columns
    static constexpr bool kMultipliesZeros = false;

    template <int kTokens, int kStride, int kRowTiles, int kTokenTiles>
    static SC_DEVICE void multiply(const Tile (&tiles)[kRowTiles], const std::uint16_t* x, Sum (&sums)[kRowTiles][kTokenTiles][4]) {
        const int lane = static_cast<int>(thread_x() % kWarpSize);
SC_UNROLL
        for (int j = 0; j < kTokenTiles; ++j) {
            const std::uint16_t* own = x + (j * 8 + lane % 8 % kTokens) * kStride + lane / 8 * kUnit;
SC_UNROLL
            for (int half = 0; half < 2; ++half) {
                std::uint32_t b[4];
                load_matrix_x4(b, own + half * (kColumns / 2));
SC_UNROLL
                for (int i = 0; i < kRowTiles; ++i) multiply_sparse_bytes(sums[i][j], tiles[i].halves[half].word, b, tiles[i].metadata[half]);
            }
        }
    }
};

}  // namespace sparsecore::cuda
