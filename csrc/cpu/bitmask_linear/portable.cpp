#include <algorithm>

#include "cpu/bitmask_linear/kernels.h"
#include "cpu/common/linear_prepare.h"

namespace sparsecore::cpu {

namespace {

// Number of values of the row; its columns and fp32 values go to scratch.
int64_t decode_row(const BitmaskWeight& w, int64_t row, const PortableScratch& scratch) {
    const uint8_t* bits = w.bitmask + row * (w.cols / 8 + (w.cols % 8 != 0));
    const int64_t first = w.row_offsets[row], end = row + 1 < w.rows ? w.row_offsets[row + 1] : w.nnz;
    int64_t count = 0;
    for (int64_t column = 0; column < w.cols && first + count < end; ++column) {
        if (bits[column >> 3] >> (column & 7) & 1) scratch.columns[count++] = column;
    }
    for (int64_t i = 0; i < count; ++i) scratch.values[i] = core::load_float(w.values, first + i, w.dtype);
    return count;
}

void run_row(const LinearCall& call, int64_t row, int64_t count, int64_t token, int64_t token_end,
             const PortableScratch& scratch) {
    const float* tile = scratch.activations;
    for (; token < token_end; token += kPortableTile, tile += call.cols * kPortableTile) {
        float sum[kPortableTile] = {};
        for (int64_t i = 0; i < count; ++i) {
            const float value = scratch.values[i];
            const float* x = tile + scratch.columns[i] * kPortableTile;
            for (int64_t t = 0; t < kPortableTile; ++t) sum[t] += value * x[t];
        }
        const int64_t valid = std::min(kPortableTile, token_end - token);
        for (int64_t t = 0; t < valid; ++t) store_output(call, token + t, row, sum[t]);
    }
}

}  // namespace

void bitmask_linear_portable(const LinearCall& call, const BitmaskWeight& w, const BitmaskPart& part,
                             const PortableScratch& scratch) {
    for (int64_t token = part.token_begin; token < part.token_end; token += kBitmaskSuperTile) {
        const int64_t token_end = std::min(token + kBitmaskSuperTile, part.token_end);
        for (int64_t t = token; t < token_end; t += kPortableTile) {
            pack_token_tile(call, t, scratch.activations + (t - token) * call.cols);
        }
        for (int64_t row = part.row_begin; row < part.row_end; ++row) {
            run_row(call, row, decode_row(w, row, scratch), token, token_end, scratch);
        }
    }
}

}  // namespace sparsecore::cpu
