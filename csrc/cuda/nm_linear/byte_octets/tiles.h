// int8 and fp8 tiles of 1:4, 1:8 and 2:8 in the decode kernel (nm_linear/decode.h): 0.3125, 0.172 and 0.344 bytes a dense element, 6.4,
// 11.6 and 5.8 times fewer than bf16.
//
// As in octets/tiles.h weights are spread over zeros in registers, here by byte permutation: a selector has a nibble for each column, and that of
// a value is a shift by four times the code. Products are exact, and quantised activations are finite: zeros at pruned positions do no
// harm. A lane has octet t of a step, so fragments A and B name its columns in another order: lane t has columns 8t to 8t + 7.
//
// A 1:8 weight is a 2:4 one: in each half of an octet the first slot is for the columns 0 and 1, the second for 2 and 3, so that a value's
// slot is its code without the lowest bit, which makes the metadata: places (0, 2) or (1, 3). That halves the words to spread.
//
// For 4096 kept values a warp takes 945 (1:4), 1173 (2:8) or 966 (1:8) instructions, by sm_90 machine code for 8 tokens, of which 636, 828
// or 650 are of the integer pipe, which takes 64 lanes a clock and SM: 12.9, 9.9 and 12.6 kept values a clock, where 4.3 TB/s bring 14.4
// (1:4) or 13.1. So on an H200 they are expected at 89, 76 and 96 % of the floor by bytes, on GPUs with less bandwidth an SM at all of it.
// Products of bytes by mma (about 1280 of 2048 multiplications a clock on an H200) take 3.2 clocks for a fragment and 8 tokens: enough, 20
// kept values a clock where they are fewest, at 9 to 16 tokens. 45 KB of a block are in flight.
//
// Of fp8 fragments become f16 (int8/decode_products.h), zeros as well: two conversions a kept value, so that the same takes 1302 (1:4),
// 1400 (2:8) or 1801 (1:8) instructions, 962, 1077 or 1302 of the integer pipe if conversions have its rate: 8.5, 7.6 and 6.3 kept values
// a clock, 59, 58 and 48 % of the floor on an H200; about the same on an A100, where a pair takes four of these and bytes
// come at half the rate; on GPUs with less bandwidth an SM, as Ada's, all of it.
#pragma once

#include "cuda/nm_linear/byte_octets/place.h"
#include "cuda/nm_linear/decode.h"
#include "cuda/nm_linear/int8/decode_args.h"
#include "cuda/ptx/bits.h"

namespace sparsecore::cuda {

struct ByteOctetTile {
    Words4 values;
    std::uint32_t codes, high_codes;
};

template <class E, int kN, int kM>
struct ByteOctetTiles : OwnColumns {
    using Args = Int8DecodeArgs;
    using Tile = ByteOctetTile;
    using Results = ScaledResults<E>;
    using Products = DecodeProducts<E>;
    using Sum = typename Products::Sum;
    static constexpr bool kSparse = is_sparse_octet(kN, kM);
    static constexpr int kColumns = byte_octet_columns(kN, kM) / 2, kDepth = 4, kPadding = kSparse ? 8 : 16;  // of two columns
    static constexpr bool kMultipliesZeros = false;

    // Of the calling lane, in the first tile of a row tile.
    struct RowTile {
        const Words4* values;
        const std::uint32_t* codes;
        const std::uint16_t* high_codes;
    };

    static SC_DEVICE RowTile row_tile(const Args& a, std::int64_t index) {
        const std::int64_t first = index * a.column_tiles * kWarpSize + thread_x() % kWarpSize;
        return {static_cast<const Words4*>(a.values) + first, a.metadata + first, kM == 8 ? a.linear.high_codes + first : nullptr};
    }

    static SC_DEVICE Tile load(const RowTile& row, std::uint32_t tile) {
        const std::size_t place = std::size_t{tile} * kWarpSize;
        return {row.values[place], row.codes[place], kM == 8 ? row.high_codes[place] : 0u};
    }

    // Two bits of the codes of the values in word `word`, or the four third bits for it, from bit `to` of each byte on.
    static SC_DEVICE std::uint32_t code_bits(const Tile& tile, int word, int to) { return moved(tile.codes, to - 2 * word) & 0x03030303u << to; }
    static SC_DEVICE std::uint32_t third_bits(const Tile& tile, int word, int to) {
        return moved(tile.high_codes | tile.high_codes << 15, to - 2 * word) & 0x01010101u << to;
    }
    static SC_DEVICE std::uint32_t moved(std::uint32_t bits, int left) { return left >= 0 ? bits << left : bits >> -left; }

    // A selector's nibble for byte `byte` of a word of values, moved by that byte of `shifts`.
    static SC_DEVICE std::uint32_t selector(std::uint32_t shifts, int byte) {
        return shift_left_wrapped(4u + static_cast<unsigned>(byte), shifts >> (8 * byte));
    }

    // Fragment A of step `step`: octets, dense, of the rows g and g + 8.
    static SC_DEVICE void spread(const Tile& tile, int step, std::uint32_t (&fragment)[4]) {
        constexpr int kInOctet = kN * 8 / kM;
        const int word = step * kInOctet / 2;
        std::uint32_t shifts = code_bits(tile, word, 2);
        if constexpr (kM == 8) shifts |= third_bits(tile, word, 4);
        const auto choose = [&](std::uint32_t nibbles) { return choose_bytes(0, tile.values.word[word], nibbles); };
SC_UNROLL
        for (int lower = 0; lower < 2; ++lower) {
            const std::uint32_t first = selector(shifts, lower * 2), second = selector(shifts, lower * 2 + 1);
            if constexpr (kM == 4) {
                fragment[lower] = choose(first);
                fragment[lower + 2] = choose(second);
            } else {
                fragment[lower] = choose(first | second);
                fragment[lower + 2] = choose((first | second) >> 16);
            }
        }
    }

    // The same of steps 2 `pair` and 2 `pair` + 1 as 2:4, and the lane's metadata for it.
    static SC_DEVICE std::uint32_t spread_sparse(const Tile& tile, int pair, std::uint32_t (&fragment)[4]) {
        constexpr std::uint32_t kFirstPlaces = 0x88888888u, kPlacesOfBit = 0x55u;
        const std::uint32_t shifts = code_bits(tile, pair, 2);
SC_UNROLL
        for (int byte = 0; byte < 4; ++byte) fragment[byte] = choose_bytes(0, tile.values.word[pair], selector(shifts, byte));
        return kFirstPlaces + third_bits(tile, pair, 0) * kPlacesOfBit;
    }

    template <int kTokens, int kStride, int kRowTiles, int kTokenTiles>
    static SC_DEVICE void multiply(const Tile (&tiles)[kRowTiles], const std::uint16_t* x, Sum (&sums)[kRowTiles][kTokenTiles][4]) {
        if constexpr (kSparse) {
            multiply_sparse<kTokens, kStride>(tiles, x, sums);
        } else {
            multiply_dense<kTokens, kStride>(tiles, x, sums);
        }
    }

    template <int kTokens, int kStride, int kRowTiles, int kTokenTiles>
    static SC_DEVICE void multiply_dense(const Tile (&tiles)[kRowTiles], const std::uint16_t* x, Sum (&sums)[kRowTiles][kTokenTiles][4]) {
SC_UNROLL
        for (int step = 0; step < kColumns / 16; ++step) {
            typename Products::DenseTokens tokens[kTokenTiles];
SC_UNROLL
            for (int j = 0; j < kTokenTiles; ++j) tokens[j] = Products::template dense_tokens<kTokens, kStride>(x + j * 8 * kStride + step * 16);
SC_UNROLL
            for (int i = 0; i < kRowTiles; ++i) {
                std::uint32_t fragment[4];
                spread(tiles[i], step, fragment);
                const auto weights = Products::dense(fragment);
SC_UNROLL
                for (int j = 0; j < kTokenTiles; ++j) Products::multiply(sums[i][j], weights, tokens[j]);
            }
        }
    }

    template <int kTokens, int kStride, int kRowTiles, int kTokenTiles>
    static SC_DEVICE void multiply_sparse(const Tile (&tiles)[kRowTiles], const std::uint16_t* x, Sum (&sums)[kRowTiles][kTokenTiles][4]) {
SC_UNROLL
        for (int pair = 0; pair < kColumns / 32; ++pair) {
            typename Products::SparseTokens tokens[kTokenTiles];
SC_UNROLL
            for (int j = 0; j < kTokenTiles; ++j) tokens[j] = Products::template sparse_tokens<kTokens, kStride>(x + j * 8 * kStride + pair * 32);
SC_UNROLL
            for (int i = 0; i < kRowTiles; ++i) {
                std::uint32_t fragment[4];
                const std::uint32_t metadata = spread_sparse(tiles[i], pair, fragment);
                const auto weights = Products::sparse(fragment, metadata);
SC_UNROLL
                for (int j = 0; j < kTokenTiles; ++j) Products::multiply(sums[i][j], weights, tokens[j]);
            }
        }
    }
};

}  // namespace sparsecore::cuda
