// Random rows for tests of top-k, and the definition of what is taken.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "harness.h"
#include "weights.h"

namespace weights {

struct Rows {
    Memory memory;
    Span span;
    float at(int64_t row, int64_t i) const {
        return sparsecore::core::load_float(span.data, row * span.strides[0] + i * span.strides[1], span.dtype);
    }
};

// Many ties, zeros of both signs, infinities, NaN and subnormals in some of them; contiguous or transposed.
inline Rows random_rows(int64_t rows, int64_t n, DType dtype) {
    Rows x{Memory(rows * n * itemsize(dtype)), {}};
    const int64_t style = harness::integer(0, 3);
    const float size = harness::pick<float>({1.0f, 1e-40f, 1e30f});
    for (int64_t i = 0; i < rows * n; ++i) {
        float value = harness::normal() * size;
        if (style == 1) value = std::round(value);
        if (style == 2) value = harness::pick<float>({0.0f, -0.0f, 1.0f, -1.0f});
        if (style == 3 && harness::integer(0, 9) == 0) value = harness::pick<float>({NAN, INFINITY, -INFINITY, -NAN});
        set_value(x.memory.data(), i, dtype, value);
    }
    x.span = make_span(x.memory.data(), dtype, {rows, n});
    if (harness::integer(0, 2) == 0) x.span.strides[0] = 1, x.span.strides[1] = rows;
    return x;
}

// The definition: sort by value (NaN largest, both zeros equal), lower index first, cut, sort by index.
inline std::vector<int64_t> expected_indices(const Rows& x, int64_t row, int64_t n, int64_t k) {
    std::vector<int64_t> order(static_cast<size_t>(n));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
        const float left = x.at(row, a), right = x.at(row, b);
        if (std::isnan(left) || std::isnan(right)) return std::isnan(left) && !std::isnan(right);
        return left > right;
    });
    order.resize(static_cast<size_t>(k));
    std::sort(order.begin(), order.end());
    return order;
}

}  // namespace weights
