// What a block of the sm_80 kernels for many tokens does with 2:4 weights in tiles: bringing them, multiplying, and the way out.
#pragma once

#include "cuda/common/results.h"
#include "cuda/nm_linear/activations.h"
#include "cuda/nm_linear/two_four/args.h"
#include "cuda/ptx/matrix.h"
#include "cuda/ptx/matrix_e4m3.h"
#include "cuda/ptx/matrix_int8.h"

namespace sparsecore::cuda {

constexpr int kGemmThreads = 256;
constexpr int kWarpRowTiles = 2;  // of one warp: 32 rows

// What depends on the element: bytes of a tile are the same. A half of it is what one product takes.
template <class T>
struct SparseElement {
    using Sum = float;
    static constexpr int kWordsOfLane = 1;  // of metadata, for both halves

    template <int kHalf>
    static SC_DEVICE void multiply(Sum (&sums)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[4],
                                   const std::uint32_t (&metadata)[1]) {
        multiply_sparse<T, kHalf>(sums, a, b, metadata[0]);
    }
};

template <>
struct SparseElement<I8> {
    using Sum = std::int32_t;
    static constexpr int kWordsOfLane = 2;

    template <int kHalf>
    static SC_DEVICE void multiply(Sum (&sums)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[4],
                                   const std::uint32_t (&metadata)[2]) {
        multiply_sparse_bytes(sums, a, b, metadata[kHalf]);
    }
};

template <>
struct SparseElement<E4M3> {
    using Sum = float;
    static constexpr int kWordsOfLane = 2;

    template <int kHalf>
    static SC_DEVICE void multiply(Sum (&sums)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[4],
                                   const std::uint32_t (&metadata)[2]) {
        multiply_sparse_e4m3(sums, a, b, metadata[kHalf]);
    }
};

// A block computes kRows x kTokens; its 8 warps divide both. T: of the weight; all types of 16 bits are alike here.
template <int kBlockRows, int kBlockTokens, class T = BF16>
struct GemmShape {
    static constexpr int kRows = kBlockRows, kTokens = kBlockTokens, kRowTiles = kRows / kTileRows;
    static constexpr int kTokenWarps = kGemmThreads / kWarpSize / (kRowTiles / kWarpRowTiles);
    static constexpr int kTokenTiles = kTokens / 8 / kTokenWarps;  // of a warp
    static constexpr int kMetadataWords = kTileMetadataWords * SparseElement<T>::kWordsOfLane;

    // Weights of one column tile, in fragment order: read 16 bytes a lane.
    struct alignas(128) Weights {
        unsigned char values[kRowTiles][kTileValueBytes];
        std::uint32_t metadata[kRowTiles][kMetadataWords];
    };
    // Activations of it: 16-byte units of a row are exchanged by its number, so that loading fragments meets no bank twice.
    using Tokens = std::uint16_t[kTokens][kTileColumns];
    using Sums = typename SparseElement<T>::Sum[kWarpRowTiles][kTokenTiles][4];
    using Staged = StagedSums<typename SparseElement<T>::Sum, kRows>[kTokens];
};

SC_DEVICE int exchanged_unit(int token, int unit) { return unit ^ (token % 8); }

// Row tiles outside the weight repeat its last one; what they give is not stored.
template <class Shape>
SC_DEVICE void fetch_weights(const TwoFourArgs& a, typename Shape::Weights& stage, std::int64_t tile) {
    constexpr int kValueUnits = kTileValueBytes / 16, kMetadataUnits = Shape::kMetadataWords / 4;
    for (int i = static_cast<int>(thread_x()); i < Shape::kRowTiles * (kValueUnits + kMetadataUnits); i += kGemmThreads) {
        const bool is_value = i < Shape::kRowTiles * kValueUnits;
        const int own = is_value ? i : i - Shape::kRowTiles * kValueUnits, units = is_value ? kValueUnits : kMetadataUnits;
        std::int64_t row_tile = static_cast<std::int64_t>(block_x()) * Shape::kRowTiles + own / units;
        row_tile = row_tile < a.row_tiles ? row_tile : a.row_tiles - 1;
        const std::int64_t place = row_tile * a.column_tiles + tile;
        if (is_value) {
            const auto* from = static_cast<const unsigned char*>(a.values) + place * kTileValueBytes + own % units * 16;
            copy_async_16(&stage.values[own / units][own % units * 16], from, 16);
        } else {
            const std::uint32_t* from = a.metadata + place * Shape::kMetadataWords + own % units * 4;
            copy_async_16(&stage.metadata[own / units][own % units * 4], from, 16);
        }
    }
}

template <class Shape>
SC_DEVICE void fetch_tokens(const TwoFourArgs& a, typename Shape::Tokens& x, std::int64_t tile, std::int64_t first_token) {
    constexpr int kUnits = kTileColumns / kUnit;
    for (int i = static_cast<int>(thread_x()); i < Shape::kTokens * kUnits; i += kGemmThreads) {
        const int own = i / kUnits, unit = i % kUnits;
        fetch_unit(a, &x[own][exchanged_unit(own, unit) * kUnit], first_token + own, tile * kTileColumns + unit * kUnit);
    }
}

// The products of the left or right half of a tile's columns.
template <class T, class Shape, int kHalf>
SC_DEVICE void multiply_half(const typename Shape::Weights& stage, const typename Shape::Tokens& x, typename Shape::Sums& sums) {
    const int warp = static_cast<int>(thread_x() / kWarpSize), lane = static_cast<int>(thread_x() % kWarpSize);
    const int row_tile = warp / Shape::kTokenWarps * kWarpRowTiles;
    const int first_token = warp % Shape::kTokenWarps * Shape::kTokenTiles * 8;
    using Element = SparseElement<T>;
    std::uint32_t metadata[kWarpRowTiles][Element::kWordsOfLane];
SC_UNROLL
    for (int i = 0; i < kWarpRowTiles; ++i) {
SC_UNROLL
        for (int w = 0; w < Element::kWordsOfLane; ++w) metadata[i][w] = stage.metadata[row_tile + i][w * kWarpSize + lane];
    }
    Words4 a[kWarpRowTiles];
SC_UNROLL
    for (int i = 0; i < kWarpRowTiles; ++i) {
        a[i] = reinterpret_cast<const Words4*>(stage.values[row_tile + i])[kHalf * kWarpSize + lane];
    }
SC_UNROLL
    for (int j = 0; j < Shape::kTokenTiles; ++j) {
        const int token = first_token + j * 8 + lane % 8;
        std::uint32_t b[4];
        load_matrix_x4(b, &x[token][exchanged_unit(token, kHalf * 4 + lane / 8) * kUnit]);
SC_UNROLL
        for (int i = 0; i < kWarpRowTiles; ++i) Element::template multiply<kHalf>(sums[i][j], a[i].word, b, metadata[i]);
    }
}

template <class T, class Shape>
SC_DEVICE void multiply_stage(const typename Shape::Weights& stage, const typename Shape::Tokens& x, typename Shape::Sums& sums) {
    multiply_half<T, Shape, 0>(stage, x, sums);
    multiply_half<T, Shape, 1>(stage, x, sums);
}

// Puts the sums of all warps in the place of the stages, which are not read any more.
template <class Shape>
SC_DEVICE void keep_sums(typename Shape::Staged& staged, const typename Shape::Sums& sums) {
    const int warp = static_cast<int>(thread_x() / kWarpSize), lane = static_cast<int>(thread_x() % kWarpSize);
SC_UNROLL
    for (int i = 0; i < kWarpRowTiles; ++i) {
SC_UNROLL
        for (int j = 0; j < Shape::kTokenTiles; ++j) {
SC_UNROLL
            for (int r = 0; r < 4; ++r) {
                const int token = (warp % Shape::kTokenWarps * Shape::kTokenTiles + j) * 8 + lane % 4 * 2 + r % 2;
                staged[token].at((warp / Shape::kTokenWarps * kWarpRowTiles + i) * kTileRows + r / 2 * 8 + lane / 4) = sums[i][j][r];
            }
        }
    }
}

}  // namespace sparsecore::cuda
