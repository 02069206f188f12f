// int8 and fp8 2:4 tiles in the decode kernel (nm_linear/decode.h): mma.sp m16n8k64, of fp8 two of f16, on weights that are read once,
// 0.625 bytes a dense element (half a byte of values, an eighth of metadata), 3.2 times fewer than bf16.
//
// Activations are quantised by a launch before (quantise.h): within the kernel every block of rows would have to look for the largest
// element of all columns first, and an H200 has some 130 blocks of them. Sums of int8 are exact, so the bits are those of sm80_gemm.h. A tile
// has twice the columns of the 16-bit one in about its bytes, 1280, of which 61 KB are in flight for each block, and (int8) half its products.
//
// Of fp8 both factors become f16 in registers (decode_products.h). For 6144 kept values and 8 tokens a warp takes 695 instructions by sm_90
// machine code, 402 of the integer pipe, conversions among them: 31 kept values a clock, where 4.3 TB/s bring 14.4.
#pragma once

#include "cuda/nm_linear/decode.h"
#include "cuda/nm_linear/int8/decode_args.h"
#include "cuda/nm_linear/int8/layout.h"
#include "cuda/nm_linear/int8/weight_tiles.h"

namespace sparsecore::cuda {

template <class E>
struct ByteTiles : OwnColumns, ByteWeightTiles {
    using Args = Int8DecodeArgs;
    using Results = ScaledResults<E>;
    using Products = DecodeProducts<E>;
    using Sum = typename Products::Sum;
    static constexpr int kColumns = kInt8TileColumns / 2, kDepth = 3, kPadding = kUnit;  // of two columns
    static constexpr bool kMultipliesZeros = false;

    template <int kTokens, int kStride, int kRowTiles, int kTokenTiles>
    static SC_DEVICE void multiply(const Tile (&tiles)[kRowTiles], const std::uint16_t* x, Sum (&sums)[kRowTiles][kTokenTiles][4]) {
SC_UNROLL
        for (int half = 0; half < 2; ++half) {
            typename Products::SparseTokens tokens[kTokenTiles];
SC_UNROLL
            for (int j = 0; j < kTokenTiles; ++j) {
                tokens[j] = Products::template sparse_tokens<kTokens, kStride>(x + j * 8 * kStride + half * (kColumns / 2));
            }
SC_UNROLL
            for (int i = 0; i < kRowTiles; ++i) {
                const auto weights = Products::sparse(tiles[i].halves[half].word, tiles[i].metadata[half]);
SC_UNROLL
                for (int j = 0; j < kTokenTiles; ++j) Products::multiply(sums[i][j], weights, tokens[j]);
            }
        }
    }
};

}  // namespace sparsecore::cuda
