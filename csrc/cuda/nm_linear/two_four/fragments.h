// What the 2:4 kernels share: 16 bytes of a lane's weights, activations with zeros where a token or a column is out of range, and
// the way out.
#pragma once

#include "cuda/common/words.h"
#include "cuda/nm_linear/two_four/args.h"
#include "cuda/ptx/thread.h"

namespace sparsecore::cuda {

SC_DEVICE std::uint16_t load_x(const TwoFourArgs& a, std::int64_t token, std::int64_t column) {
    if (token >= a.tokens || column >= a.cols) return 0;
    return static_cast<const std::uint16_t*>(a.x)[token * a.x_token_stride + column * a.x_column_stride];
}

// Columns `column`, an even number, and the next one.
SC_DEVICE std::uint32_t load_x_pair(const TwoFourArgs& a, std::int64_t token, std::int64_t column) {
    if (a.x_in_units && token < a.tokens && column + 1 < a.cols) {
        const auto* x = static_cast<const std::uint16_t*>(a.x) + token * a.x_token_stride + column;
        return *reinterpret_cast<const std::uint32_t*>(x);
    }
    return load_x(a, token, column) | static_cast<std::uint32_t>(load_x(a, token, column + 1)) << 16;
}

// Writes a block's results, rounded and staged as [kTokens][kRows + 8] in shared memory, two rows of a token at a time.
template <int kTokens, int kRows, int kThreads>
SC_DEVICE void write_pairs(const TwoFourArgs& a, const std::uint16_t* staged, int thread, std::int64_t first_row,
                           std::int64_t first_token) {
    constexpr int kPairs = kRows / 2, kStride = kRows + 8;
    auto* out = static_cast<std::uint16_t*>(a.out);
    for (int i = thread; i < kTokens * kPairs; i += kThreads) {
        const std::int64_t token = first_token + i / kPairs, row = first_row + i % kPairs * 2;
        if (token >= a.tokens || row >= a.rows) continue;
        const std::uint16_t* from = staged + i / kPairs * kStride + i % kPairs * 2;
        if (a.out_in_pairs && row + 1 < a.rows) {
            auto* to = reinterpret_cast<std::uint32_t*>(out + token * a.out_token_stride + row);
            *to = *reinterpret_cast<const std::uint32_t*>(from);
        } else {
            out[token * a.out_token_stride + row * a.out_row_stride] = from[0];
            if (row + 1 < a.rows) out[token * a.out_token_stride + (row + 1) * a.out_row_stride] = from[1];
        }
    }
}

}  // namespace sparsecore::cuda
