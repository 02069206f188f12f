// 1:4, 1:8 and 2:8 tiles in the decode kernel (nm_linear/decode.h): 0.5625, 0.297 and 0.594 bytes a dense element.
//
// Weights are spread over zeros in registers and multiplied by dense products: a lane has whole octets, so that no other lane's
// positions are needed, and its part of fragment B is 16 consecutive bytes of activations, one load for two products. Fragments A and B name the
// columns of a step in the same other order: lane t has columns 8t to 8t + 7, the first four in the first product.
//
// For 2048 kept values a warp takes 555 (1:4), 833 (1:8) or 765 (2:8) instructions, by sm_90 machine code for 8 tokens, of which 428, 681 or 630
// are of the integer pipe, which takes 64 lanes a clock and SM: 9.6, 6.0 and 6.5 kept values a clock, where 4.3 TB/s bring about 8. So
// on an H200 the octets of 8 columns are expected at 77 to 83 % of the floor by bytes, on GPUs with less bandwidth an SM at all
// of it. Loads of activations meet no bank twice: 8 lanes read two rows of 64 bytes that lie 64 bytes apart in the banks. Dense
// products by mma (about 640 of 1024 multiplications a clock on an H200) take 3.2 clocks for 16 x 16 x 8: enough, but for
// 1:8 at 9 to 16 tokens, which they bound at 5 kept values a clock.
#pragma once

#include "cuda/nm_linear/decode.h"
#include "cuda/nm_linear/octets/args.h"
#include "cuda/nm_linear/octets/place.h"
#include "cuda/ptx/bits.h"
#include "cuda/ptx/matrix.h"

namespace sparsecore::cuda {

struct OctetTile {
    Words4 values;
    std::uint32_t codes;
};

// One value at column `code` of kWords * 2: 16 bits further left for each column, into the word that it falls in.
template <int kWords>
SC_DEVICE void spread_one(std::uint32_t* words, std::uint32_t value, std::uint32_t bits_left) {
SC_UNROLL
    for (int i = 0; i < kWords; ++i) words[i] = shift_left(value, bits_left - 32u * static_cast<unsigned>(i));
}

// Two values at two columns of 8: nibble pairs that choose their bytes stand at these columns, others choose zeros.
SC_DEVICE void spread_two(std::uint32_t (&words)[4], std::uint32_t pair, std::uint32_t first_bits, std::uint32_t second_bits) {
    constexpr std::uint32_t kZeros = 0x44444444u, kFirst = 0x44 ^ 0x10, kSecond = 0x44 ^ 0x32;
    const std::uint32_t low = kZeros ^ shift_left(kFirst, first_bits) ^ shift_left(kSecond, second_bits);
    const std::uint32_t high = kZeros ^ shift_left(kFirst, first_bits - 32u) ^ shift_left(kSecond, second_bits - 32u);
    words[0] = choose_bytes(pair, 0, low);
    words[1] = choose_bytes(pair, 0, low >> 16);
    words[2] = choose_bytes(pair, 0, high);
    words[3] = choose_bytes(pair, 0, high >> 16);
}

template <class T, int kN, int kM>
struct OctetTiles : OwnColumns {
    using Args = OctetArgs;
    using Element = T;
    using Sum = float;
    using Results = FloatResults<T>;
    using Tile = OctetTile;
    static constexpr int kColumns = kOctetKept / kN * kM, kDepth = 4, kPadding = 32;
    static constexpr bool kMultipliesZeros = true;
    static constexpr int kCodeBits = octet_code_bits(kM);

    // Of the calling lane, in the first tile of a row tile.
    struct RowTile {
        const Words4* values;
        const std::uint16_t* codes;
        const std::uint8_t* high_codes;
    };

    static SC_DEVICE RowTile row_tile(const Args& a, std::int64_t index) {
        const std::int64_t first = index * a.column_tiles * kWarpSize + thread_x() % kWarpSize;
        return {static_cast<const Words4*>(a.values) + first, a.codes + first, kM == 8 ? a.high_codes + first : nullptr};
    }

    static SC_DEVICE Tile load(const RowTile& row, std::uint32_t tile) {
        const std::size_t place = std::size_t{tile} * kWarpSize;
        std::uint32_t codes = row.codes[place];
        if constexpr (kM == 8) codes |= static_cast<std::uint32_t>(row.high_codes[place]) << 16;
        return {row.values[place], codes};
    }

    // Code `index` of a lane, times 1 << kScale.
    template <int kScale>
    static SC_DEVICE std::uint32_t code(std::uint32_t codes, int index) {
        const int right = index * kCodeBits - kScale;
        return (right >= 0 ? codes >> right : codes << -right) & ((1u << kCodeBits) - 1u) << kScale;
    }

    // A lane's octet of step `step`, dense: of row g (`lower` 0) or g + 8.
    static SC_DEVICE void spread(const Tile& tile, int step, int lower, std::uint32_t (&words)[4]) {
        const int octet = step * 2 + lower;
        if constexpr (kN == 1 && kM == 8) {
            const std::uint32_t pair = tile.values.word[step];
            spread_one<4>(words, lower == 0 ? pair & 0xffffu : pair >> 16, code<4>(tile.codes, octet));
        } else if constexpr (kN == 1) {
            const std::uint32_t pair = tile.values.word[octet];
            spread_one<2>(&words[0], pair & 0xffffu, code<4>(tile.codes, octet * 2));
            spread_one<2>(&words[2], pair >> 16, code<4>(tile.codes, octet * 2 + 1));
        } else {
            spread_two(words, tile.values.word[octet], code<3>(tile.codes, octet * 2), code<3>(tile.codes, octet * 2 + 1));
        }
    }

    template <int kTokens, int kStride, int kRowTiles, int kTokenTiles>
    static SC_DEVICE void multiply(const Tile (&tiles)[kRowTiles], const std::uint16_t* x,
                                   float (&sums)[kRowTiles][kTokenTiles][4]) {
        const int lane = static_cast<int>(thread_x() % kWarpSize);
SC_UNROLL
        for (int step = 0; step < kColumns / 32; ++step) {
            Words4 b[kTokenTiles];
SC_UNROLL
            for (int j = 0; j < kTokenTiles; ++j) {
                b[j] = *reinterpret_cast<const Words4*>(x + (j * 8 + lane / 4 % kTokens) * kStride + step * 32 + lane % 4 * kUnit);
            }
SC_UNROLL
            for (int i = 0; i < kRowTiles; ++i) {
                std::uint32_t upper[4], lower[4];
                spread(tiles[i], step, 0, upper);
                spread(tiles[i], step, 1, lower);
SC_UNROLL
                for (int half = 0; half < 2; ++half) {
                    const std::uint32_t fragment[4] = {upper[2 * half], lower[2 * half], upper[2 * half + 1], lower[2 * half + 1]};
SC_UNROLL
                    for (int j = 0; j < kTokenTiles; ++j) {
                        const std::uint32_t columns[2] = {b[j].word[2 * half], b[j].word[2 * half + 1]};
                        cuda::multiply<T>(sums[i][j], fragment, columns);
                    }
                }
            }
        }
    }

    // `sum` and the products of a row's values from column tile `first` to `end` with infinities and NaNs of a token.
    static SC_DEVICE float add_unusual(const Args& a, std::int64_t row, std::int64_t token, std::int64_t first, std::int64_t end,
                                       float sum) {
        const std::int64_t end_slot = end * kOctetKept < a.kept ? end * kOctetKept : a.kept;
SC_ROLLED
        for (std::int64_t slot = first * kOctetKept; slot < end_slot; ++slot) {
            const OctetPlace place = octet_place(row, slot, a.column_tiles, kN, kM);
            std::uint32_t codes = a.codes[place.lane];
            if constexpr (kM == 8) codes |= static_cast<std::uint32_t>(a.high_codes[place.lane]) << 16;
            const T x{load_element(a, token, slot / kN * kM + code<0>(codes, place.index))};
            if (!is_unusual<T>(x.bits)) continue;
            sum += to_float(static_cast<const T*>(a.values)[place.lane * kOctetValues + place.index]) * to_float(x);
        }
        return sum;
    }
};

}  // namespace sparsecore::cuda
