#include <algorithm>

#include "cpu/block_linear/kernels.h"
#include "cpu/common/linear_prepare.h"

namespace sparsecore::cpu {

namespace {

void multiply_row(const BlockWeight& w, int64_t block_row, int64_t in_block, const float* tile, float* sum) {
    for (int64_t b = w.row_offsets[block_row]; b < w.row_offsets[block_row + 1]; ++b) {
        const int64_t column = w.columns[b] * w.block_cols;
        const int64_t depth = std::min(w.block_cols, w.cols - column);
        const int64_t first = (b * w.block_rows + in_block) * w.block_cols;
        for (int64_t k = 0; k < depth; ++k) {
            const float weight = core::load_float(w.values, first + k, w.dtype);
            const float* x = tile + (column + k) * kPortableTile;
            for (int64_t t = 0; t < kPortableTile; ++t) sum[t] += weight * x[t];
        }
    }
}

}  // namespace

void block_linear_portable(const LinearCall& call, const BlockWeight& w, const BlockPart& part, float* scratch) {
    for (int64_t token = part.token_begin; token < part.token_end; token += kPortableTile) {
        pack_token_tile(call, token, scratch);
        const int64_t count = std::min(kPortableTile, part.token_end - token);
        const int64_t last_row = std::min(w.rows, part.row_end * w.block_rows);
        for (int64_t row = part.row_begin * w.block_rows; row < last_row; ++row) {
            float sum[kPortableTile] = {};
            multiply_row(w, row / w.block_rows, row % w.block_rows, scratch, sum);
            for (int64_t t = 0; t < count; ++t) store_output(call, token + t, row, sum[t]);
        }
    }
}

}  // namespace sparsecore::cpu
