// Plain C++ for every machine. Quantised tokens lie in tiles, int16 [cols][kPortableTile]: a kept value meets one row of
// a tile, a loop of widening products that a compiler can vectorise.
#include "cpu/int8_linear/portable.h"

#include <vector>

#include "cpu/int8_linear/quantise.h"
#include "cpu/int8_linear/rows.h"
#include "cpu/int8_linear/tokens.h"

namespace sparsecore::cpu {

namespace {

void quantise_tiles(const LinearCall& call, int64_t begin, int64_t end, int16_t* tile, float* scales) {
    for (int64_t token = begin; token < end; token += kPortableTile, tile += call.cols * kPortableTile) {
        for (int64_t t = 0; t < kPortableTile; ++t) {
            const bool valid = token + t < end;
            const float scale = valid ? token_scale(call, token + t) : 1.0f;
            if (valid) scales[token + t - begin] = scale;
            for (int64_t c = 0; c < call.cols; ++c) {
                tile[c * kPortableTile + t] = valid ? int8_value(load_x(call, token + t, c), scale) : int16_t{0};
            }
        }
    }
}

struct Row {
    std::vector<int32_t> columns;
    std::vector<int8_t> values;
    int64_t count = 0;
};

void row_times_tile(const Row& row, const int16_t* tile, int32_t* sums) {
    std::fill_n(sums, kPortableTile, 0);
    for (size_t i = 0; i < static_cast<size_t>(row.count); ++i) {
        const int16_t value = row.values[i];
        const int16_t* x = tile + row.columns[i] * kPortableTile;
        for (int64_t t = 0; t < kPortableTile; ++t) sums[t] += int32_t{value} * x[t];
    }
}

}  // namespace

void int8_linear_portable(const formats::Resident& weight, const LinearCall& call) {
    const formats::Stored w = resident_stored_view(weight);
    const auto* w_scales = w.scales.as<const float>();
    const double work = static_cast<double>(call.tokens) * static_cast<double>(element_count(w.values));
    const Int8Loop loop{kPortableTile, call.cols * 2, call.rows, work};
    const auto quantise = [&](int64_t begin, int64_t end, uint8_t* values, float* scales) {
        quantise_tiles(call, begin, end, reinterpret_cast<int16_t*>(values), scales);
    };
    const auto multiply = [&](int64_t begin, int64_t end, int64_t row_begin, int64_t row_end, const uint8_t* values,
                              const float* scales) {
        const auto cols = static_cast<size_t>(call.cols);
        Row row{std::vector<int32_t>(cols), std::vector<int8_t>(cols)};
        int32_t sums[kPortableTile];
        for (int64_t r = row_begin; r < row_end; ++r) {
            row.count = int8_row_entries(w, r, row.columns.data(), row.values.data());
            const auto* tile = reinterpret_cast<const int16_t*>(values);
            for (int64_t t = begin; t < end; t += kPortableTile, tile += call.cols * kPortableTile) {
                row_times_tile(row, tile, sums);
                const int64_t count = std::min(kPortableTile, end - t);
                for (int64_t i = 0; i < count; ++i) {
                    store_int8_output(call, t + i, r, sums[i], scales[t - begin + i], w_scales[r]);
                }
            }
        }
    };
    for_quantised_tokens(call, loop, quantise, multiply);
}

}  // namespace sparsecore::cpu
