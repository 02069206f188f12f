// Plain C++ for every machine. Quantised tokens lie in tiles, [cols][kPortableTile] of int16 (fp8: float): a kept value meets
// one row of a tile, a loop of widening products that a compiler can vectorise.
#include "cpu/int8_linear/portable.h"

#include <vector>

#include "cpu/int8_linear/quantise.h"
#include "cpu/int8_linear/rows.h"
#include "cpu/int8_linear/tokens.h"

namespace sparsecore::cpu {

namespace {

// How numbers of a type are multiplied: as Value, whose products a Sum adds up exactly.
struct Int8 {
    using Value = int16_t;
    using Sum = int32_t;
    static constexpr core::DType kType = core::DType::I8;
    static Value weight(int8_t bits) { return bits; }
    static Value activation(float x, float scale) { return int8_value(x, scale); }
};

struct Fp8 {
    using Value = float;
    using Sum = double;
    static constexpr core::DType kType = core::DType::F8;
    static Value weight(int8_t bits) { return core::e4m3_to_f32(static_cast<uint8_t>(bits)); }
    static Value activation(float x, float scale) { return core::e4m3_to_f32(fp8_value(x, scale)); }
};

template <class Number>
void quantise_tiles(const LinearCall& call, int64_t begin, int64_t end, typename Number::Value* tile, float* scales) {
    using Value = typename Number::Value;
    for (int64_t token = begin; token < end; token += kPortableTile, tile += call.cols * kPortableTile) {
        for (int64_t t = 0; t < kPortableTile; ++t) {
            const bool valid = token + t < end;
            const float scale = valid ? token_scale(call, token + t, Number::kType) : 1.0f;
            if (valid) scales[token + t - begin] = scale;
            for (int64_t c = 0; c < call.cols; ++c) {
                tile[c * kPortableTile + t] = valid ? Number::activation(load_x(call, token + t, c), scale) : Value{0};
            }
        }
    }
}

struct Row {
    std::vector<int32_t> columns;
    std::vector<int8_t> values;
    int64_t count = 0;
};

template <class Number>
void row_times_tile(const Row& row, const typename Number::Value* tile, typename Number::Sum* sums) {
    using Sum = typename Number::Sum;
    std::fill_n(sums, kPortableTile, Sum{0});
    for (size_t i = 0; i < static_cast<size_t>(row.count); ++i) {
        const auto value = static_cast<Sum>(Number::weight(row.values[i]));
        const auto* x = tile + row.columns[i] * kPortableTile;
        for (int64_t t = 0; t < kPortableTile; ++t) sums[t] += value * static_cast<Sum>(x[t]);
    }
}

template <class Number>
void quantised_linear(const formats::Resident& weight, const LinearCall& call) {
    using Value = typename Number::Value;
    constexpr auto kBytes = static_cast<int64_t>(sizeof(Value));
    const formats::Stored w = resident_stored_view(weight);
    const auto* w_scales = w.scales.as<const float>();
    const double work = static_cast<double>(call.tokens) * static_cast<double>(element_count(w.values));
    const Int8Loop loop{kPortableTile, call.cols * kBytes, call.rows, work};
    const auto quantise = [&](int64_t begin, int64_t end, uint8_t* values, float* scales) {
        quantise_tiles<Number>(call, begin, end, reinterpret_cast<Value*>(values), scales);
    };
    const auto multiply = [&](int64_t begin, int64_t end, int64_t row_begin, int64_t row_end, const uint8_t* values,
                              const float* scales) {
        const auto cols = static_cast<size_t>(call.cols);
        Row row{std::vector<int32_t>(cols), std::vector<int8_t>(cols)};
        typename Number::Sum sums[kPortableTile];
        for (int64_t r = row_begin; r < row_end; ++r) {
            row.count = int8_row_entries(w, r, row.columns.data(), row.values.data());
            const auto* tile = reinterpret_cast<const Value*>(values);
            for (int64_t t = begin; t < end; t += kPortableTile, tile += call.cols * kPortableTile) {
                row_times_tile<Number>(row, tile, sums);
                const int64_t count = std::min(kPortableTile, end - t);
                for (int64_t i = 0; i < count; ++i) {
                    store_scaled_output(call, t + i, r, static_cast<float>(sums[i]), scales[t - begin + i], w_scales[r]);
                }
            }
        }
    };
    for_quantised_tokens(call, loop, quantise, multiply);
}

}  // namespace

void int8_linear_portable(const formats::Resident& weight, const LinearCall& call) { quantised_linear<Int8>(weight, call); }

void fp8_linear_portable(const formats::Resident& weight, const LinearCall& call) { quantised_linear<Fp8>(weight, call); }

}  // namespace sparsecore::cpu
