#include "cpu/int8_linear/pairs.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "cpu/int8_linear/quantise.h"
#include "cpu/int8_linear/rows.h"
#include "cpu/int8_linear/tokens.h"
#include "cpu/stored_layout.h"

#if defined(SPARSECORE_HAVE_AVX2)

namespace sparsecore::cpu {

namespace {

constexpr uint32_t kStoredPairs = 3;

void quantise_tokens(const LinearCall& call, int64_t begin, int64_t end, int64_t stride, int16_t* values, float* scales) {
    for (int64_t token = begin; token < end; ++token, values += stride) {
        const float scale = scales[token - begin] = token_scale(call, token);
        for (int64_t c = 0; c < call.cols; ++c) values[c] = int8_value(load_x(call, token, c), scale);
        std::fill(values + call.cols, values + stride, int16_t{0});
    }
}

// Rows of one panel, and where one of them is decoded.
struct Scratch {
    core::AlignedBuffer panel;
    std::vector<int32_t> columns;
    std::vector<int8_t> values;
};

int16_t* expand_panel(const formats::Stored& w, int64_t first, int64_t pairs, Scratch& scratch) {
    const int64_t bytes = pairs * kPairRows * 4, rows = std::min(kPairRows, w.geometry.rows - first);
    auto* panel = static_cast<int16_t*>(scratch.panel.reserve(bytes));
    if (bytes > 0) std::memset(panel, 0, static_cast<size_t>(bytes));
    for (int64_t r = 0; r < rows; ++r) {
        const int64_t count = int8_row_entries(w, first + r, scratch.columns.data(), scratch.values.data());
        for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
            const int64_t column = scratch.columns[i];
            panel[(column / 2 * kPairRows + r) * 2 + column % 2] = scratch.values[i];
        }
    }
    return panel;
}

void linear(const formats::Resident& resident, const LinearCall& call) {
    const formats::Stored w = resident_stored_view(resident);
    const auto* w_scales = w.scales.as<const float>();
    const int64_t pairs = core::ceil_div(call.cols, 2), stride = 2 * pairs;
    const double work = static_cast<double>(call.tokens) * static_cast<double>(element_count(w.values));
    const auto quantise = [&](int64_t begin, int64_t end, uint8_t* values, float* scales) {
        quantise_tokens(call, begin, end, stride, reinterpret_cast<int16_t*>(values), scales);
    };
    const auto multiply = [&](int64_t begin, int64_t end, int64_t unit_begin, int64_t unit_end, const uint8_t* values,
                              const float* scales) {
        const auto* x = reinterpret_cast<const int16_t*>(values);
        const auto cols = static_cast<size_t>(call.cols);
        Scratch scratch{{}, std::vector<int32_t>(cols), std::vector<int8_t>(cols)};
        alignas(64) int32_t sums[kPairTokens * kPairRows];
        for (int64_t first = unit_begin * kPairRows; first < std::min(unit_end * kPairRows, call.rows); first += kPairRows) {
            const int16_t* panel = expand_panel(w, first, pairs, scratch);
            const int64_t rows = std::min(kPairRows, call.rows - first);
            for (int64_t t = begin; t < end; t += kPairTokens) {
                const int64_t count = std::min<int64_t>(kPairTokens, end - t);
                int8_pairs_avx2(panel, x + (t - begin) * stride, stride, count, pairs, sums);
                for (int64_t i = 0; i < count * rows; ++i) {
                    const int64_t token = i / rows, row = i % rows;
                    store_int8_output(call, t + token, first + row, sums[token * kPairRows + row],
                                      scales[t - begin + token], w_scales[first + row]);
                }
            }
        }
    };
    for_quantised_tokens(call, {1, stride * 2, core::ceil_div(call.rows, kPairRows), work}, quantise, multiply);
}

}  // namespace

Layout int8_pairs_layout(formats::Kind kind) {
    Layout layout = stored_layout(kind, linear);
    layout.id = kStoredPairs;
    layout.isa = core::Isa::Avx2;
    layout.name = "int8 pairs";
    return layout;
}

}  // namespace sparsecore::cpu

#endif
