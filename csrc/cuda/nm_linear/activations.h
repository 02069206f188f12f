// What the tensor-core kernels share: activations on their way to shared memory, and results on their way out.
#pragma once

#include "cuda/common/linear_io.h"
#include "cuda/nm_linear/tile_args.h"
#include "cuda/ptx/async_copy.h"

namespace sparsecore::cuda {

// Brings kUnit columns of a token to shared memory: by an asynchronous copy where they can be read as one unit.
SC_DEVICE void fetch_unit(const LinearArgs& a, std::uint16_t* to, std::int64_t token, std::int64_t column) {
    if (!a.x_in_units) {
        for (int e = 0; e < kUnit; ++e) to[e] = load_element(a, token, column + e);
        return;
    }
    const std::int64_t left = token < a.tokens ? a.cols - column : 0;
    const int elements = left <= 0 ? 0 : left < kUnit ? static_cast<int>(left) : kUnit;
    const auto* x = static_cast<const std::uint16_t*>(a.x);
    copy_async_16(to, elements > 0 ? x + token * a.x_token_stride + column : x, elements * 2);
}

// For weights whose columns are those of x.
struct OwnColumns {
    static SC_DEVICE void fetch(const LinearArgs& a, std::int64_t, std::uint16_t* to, std::int64_t token, std::int64_t column) {
        fetch_unit(a, to, token, column);
    }
};

// Writes a block's results, rounded and staged as [kTokens][kRows + 8] in shared memory, two rows of a token at a time.
template <int kTokens, int kRows, int kThreads>
SC_DEVICE void write_pairs(const TileArgs& a, const std::uint16_t* staged, int thread, std::int64_t first_row,
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
