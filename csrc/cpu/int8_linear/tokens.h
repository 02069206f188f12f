// The loop around every int8 kernel: tokens are quantised once, a chunk at a time, then met by all rows.
#pragma once

#include <algorithm>

#include "core/buffer.h"
#include "core/checked.h"
#include "core/parallel.h"
#include "cpu/common/linear_call.h"

namespace sparsecore::cpu {

// `tile`: tokens that a kernel packs together; `token_bytes`: what one packed token takes; `row_units`: parts that rows
// are split into; `work`: multiply-adds of the call.
struct Int8Loop {
    int64_t tile, token_bytes, row_units;
    double work;
};

// quantise(token_begin, token_end, values, scales) fills whole tiles (the last may be ragged) and one fp32 scale a token;
// multiply(token_begin, token_end, unit_begin, unit_end, values, scales) reads them. Both run on all threads.
template <class Quantise, class Multiply>
void for_quantised_tokens(const LinearCall& call, const Int8Loop& loop, Quantise&& quantise, Multiply&& multiply) {
    constexpr int64_t kChunkBytes = 8 << 20, kQuantisedPerThread = 1 << 15;
    constexpr double kWorkPerThread = 1 << 19;  // multiply-adds, some microseconds: worth waking a thread for
    thread_local core::AlignedBuffer values_buffer, scales_buffer;
    const int64_t tile_bytes = core::checked_mul(loop.tile, loop.token_bytes, "quantised activations");
    const int64_t tiles = core::ceil_div(call.tokens, loop.tile);
    const int64_t chunk_tiles = std::min(tiles, std::max<int64_t>(1, kChunkBytes / std::max<int64_t>(1, tile_bytes)));
    const int64_t chunk = chunk_tiles * loop.tile;
    auto* values = static_cast<uint8_t*>(values_buffer.reserve(chunk_tiles * tile_bytes));
    auto* scales = static_cast<float*>(scales_buffer.reserve(chunk * 4));
    const int threads = static_cast<int>(std::min<double>(call.threads, 1.0 + loop.work / kWorkPerThread));
    const int64_t grain = kQuantisedPerThread / std::max<int64_t>(1, call.cols * loop.tile) + 1;
    for (int64_t begin = 0; begin < call.tokens; begin += chunk) {
        const int64_t end = std::min(begin + chunk, call.tokens);
        core::parallel_for(0, core::ceil_div(end - begin, loop.tile), grain, threads, [&](int64_t first, int64_t last) {
            const int64_t token = begin + first * loop.tile;
            quantise(token, std::min(begin + last * loop.tile, end), values + first * tile_bytes,
                     scales + first * loop.tile);
        });
        core::parallel_for(0, loop.row_units, 1, threads, [&](int64_t first, int64_t last) {
            multiply(begin, end, first, last, values, scales);
        });
    }
}

}  // namespace sparsecore::cpu
