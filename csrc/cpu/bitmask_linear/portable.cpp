#include <algorithm>

#include "core/buffer.h"
#include "core/checked.h"
#include "cpu/bitmask_linear/bitmask_linear.h"
#include "cpu/common/linear_prepare.h"

namespace sparsecore::cpu {

namespace {

// Tokens for which a row's columns are decoded once.
constexpr int64_t kSuperTile = 4 * kPortableTile;

// activations: cols * kSuperTile floats; values and columns: cols each.
struct PortableScratch {
    float* activations;
    float* values;
    int64_t* columns;
};

// Number of values of the row; its columns and fp32 values go to scratch.
int64_t decode_row(const BitmaskWeight& w, int64_t row, const PortableScratch& scratch) {
    const uint8_t* bits = w.bitmask + row * (w.cols / 8 + (w.cols % 8 != 0));
    const int64_t first = row_start(w, row), end = row_start(w, row + 1);
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

void run_part(const LinearCall& call, const BitmaskWeight& w, int64_t token_begin, int64_t tokens_end, int64_t row_begin,
              int64_t row_end, const PortableScratch& scratch) {
    for (int64_t token = token_begin; token < tokens_end; token += kSuperTile) {
        const int64_t token_end = std::min(token + kSuperTile, tokens_end);
        for (int64_t t = token; t < token_end; t += kPortableTile) {
            pack_token_tile(call, t, scratch.activations + (t - token) * call.cols);
        }
        for (int64_t row = row_begin; row < row_end; ++row) {
            run_row(call, row, decode_row(w, row, scratch), token, token_end, scratch);
        }
    }
}

float* floats(core::AlignedBuffer& buffer, int64_t cols, int64_t per_column) {
    return static_cast<float*>(buffer.reserve(core::checked_mul(cols * 4, per_column, "activations")));
}

}  // namespace

void bitmask_linear_portable(const LinearCall& call, const BitmaskWeight& w) {
    const int64_t work = call.tokens * (w.nnz + call.rows);
    for_linear_parts(call, kSuperTile, w.rows, work, [&](int64_t t0, int64_t t1, int64_t r0, int64_t r1) {
        thread_local core::AlignedBuffer activations, values, columns;
        const PortableScratch scratch{floats(activations, w.cols, kSuperTile), floats(values, w.cols, 1),
                                      static_cast<int64_t*>(columns.reserve(w.cols * 8))};
        run_part(call, w, t0, t1, r0, r1, scratch);
    });
}

}  // namespace sparsecore::cpu
