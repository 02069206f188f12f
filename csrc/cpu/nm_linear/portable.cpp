// Plain C++ for every machine. The kept values of a row and their columns are decoded once for a super-tile of tokens;
// each value then meets one row of a transposed tile of activations, a loop that a compiler can vectorise.
#include "cpu/nm_linear/portable.h"

#include <algorithm>
#include <vector>

#include "cpu/common/linear_prepare.h"
#include "cpu/common/linear_prepare.h"
#include "formats/nm.h"

namespace sparsecore::cpu {

namespace {

constexpr int64_t kSuperTile = 4 * kPortableTile;

struct Row {
    std::vector<float> values;
    std::vector<int32_t> columns;
};

void decode_row(const formats::Stored& w, int64_t row, Row& out) {
    const formats::Geometry& g = w.geometry;
    const int64_t kept = w.values.shape[1];
    out.values.resize(static_cast<size_t>(kept));
    out.columns.resize(static_cast<size_t>(kept));
    formats::nm_row_columns(w.positions, g.codes, row, g.cols, g.p0, g.p1, out.columns.data());
    for (int64_t i = 0; i < kept; ++i) {
        out.values[static_cast<size_t>(i)] = core::load_float(w.values.data, row * kept + i, g.dtype);
    }
}

void row_times_tile(const Row& row, const float* tile, float* sums) {
    std::fill_n(sums, kPortableTile, 0.0f);
    for (size_t i = 0; i < row.columns.size(); ++i) {
        const float value = row.values[i];
        const float* x = tile + row.columns[i] * kPortableTile;
        for (int64_t t = 0; t < kPortableTile; ++t) sums[t] += value * x[t];
    }
}

void run_part(const LinearCall& call, const formats::Stored& w, int64_t token_begin, int64_t token_end,
              int64_t row_begin, int64_t row_end) {
    std::vector<float> tiles(static_cast<size_t>(call.cols * kSuperTile));
    Row row;
    float sums[kPortableTile];
    for (int64_t super = token_begin; super < token_end; super += kSuperTile) {
        const int64_t super_end = std::min(super + kSuperTile, token_end);
        for (int64_t t = super; t < super_end; t += kPortableTile) {
            pack_token_tile(call, t, tiles.data() + (t - super) * call.cols);
        }
        for (int64_t r = row_begin; r < row_end; ++r) {
            decode_row(w, r, row);
            for (int64_t t = super; t < super_end; t += kPortableTile) {
                row_times_tile(row, tiles.data() + (t - super) * call.cols, sums);
                const int64_t count = std::min(kPortableTile, super_end - t);
                for (int64_t i = 0; i < count; ++i) store_output(call, t + i, r, sums[i]);
            }
        }
    }
}

}  // namespace

void nm_linear_portable(const formats::Resident& weight, const LinearCall& call) {
    const formats::Stored w = resident_stored_view(weight);
    for_linear_parts(call, kPortableTile, call.rows, call.tokens * call.rows * w.values.shape[1],
                     [&](int64_t token_begin, int64_t token_end, int64_t row_begin, int64_t row_end) {
                         run_part(call, w, token_begin, token_end, row_begin, row_end);
                     });
}

}  // namespace sparsecore::cpu
