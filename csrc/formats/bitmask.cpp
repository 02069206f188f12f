#include "formats/bitmask.h"

#include <cstring>

#include "core/checked.h"
#include "formats/bits.h"

namespace sparsecore::formats {

using core::Error;
using core::Span;

void require_matrix(const Span& span, const char* name, int64_t rows, int64_t cols) {
    require_shape(span, name, {rows, cols});
    require_contiguous(span, name);
}

void check_row_padding(const uint8_t* row, int64_t row_index, int64_t cols, const char* name) {
    const int used = static_cast<int>(cols % 8);
    if (used != 0 && row[cols / 8] >> used != 0) {
        throw Error("IndexTableError", std::string("padding bits of the ") + name + " are not zero",
                    "row " + std::to_string(row_index), "zeros from column " + std::to_string(cols) + " on");
    }
}

void expand_bitmask(const Span& values, const Span& bitmask, const Span& dense) {
    const int64_t rows = dense.shape[0], cols = dense.shape[1];
    for_element_type(dense.dtype, "dense", [&](auto element) {
        using T = decltype(element);
        const T* value = values.as<const T>();
        T* target = dense.as<T>();
        for (int64_t row = 0; row < rows; ++row) {
            const uint8_t* mask = bitmask.as<const uint8_t>() + row * bitmask_bytes(cols);
            for (int64_t col = 0; col < cols; ++col) *target++ = test_bit(mask, col) ? *value++ : T{0};
        }
    });
}

int64_t bitmask_count(const Span& dense) {
    require_matrix(dense, "dense", -1, -1);
    int64_t count = 0;
    for_element_type(dense.dtype, "dense", [&](auto element) {
        using T = decltype(element);
        const ZeroTest<T> is_zero(dense.dtype);
        const T* value = dense.as<const T>();
        for (int64_t i = 0, size = element_count(dense); i < size; ++i) count += !is_zero(value[i]);
    });
    return count;
}

void bitmask_pack(const Span& dense, const Span& compressed, const Span& bitmask, const Span& row_offsets) {
    const int64_t nnz = bitmask_count(dense), rows = dense.shape[0], cols = dense.shape[1];
    require_dtype(compressed, "compressed", dense.dtype);
    require_shape(compressed, "compressed", {nnz});
    require_contiguous(compressed, "compressed");
    require_dtype(bitmask, "bitmask", core::DType::U8);
    require_matrix(bitmask, "bitmask", rows, bitmask_bytes(cols));
    require_dtype(row_offsets, "row_offsets", core::DType::I64);
    require_shape(row_offsets, "row_offsets", {rows});
    require_contiguous(row_offsets, "row_offsets");
    for (const Span* out : {&compressed, &bitmask, &row_offsets}) require_disjoint(*out, "output", dense, "dense");
    for_element_type(dense.dtype, "dense", [&](auto element) {
        using T = decltype(element);
        const ZeroTest<T> is_zero(dense.dtype);
        T* value = compressed.as<T>();
        for (int64_t row = 0; row < rows; ++row) {
            const T* source = dense.as<const T>() + row * cols;
            uint8_t* mask = bitmask.as<uint8_t>() + row * bitmask_bytes(cols);
            if (cols > 0) std::memset(mask, 0, static_cast<size_t>(bitmask_bytes(cols)));
            row_offsets.as<int64_t>()[row] = value - compressed.as<T>();
            for (int64_t col = 0; col < cols; ++col) {
                if (is_zero(source[col])) continue;
                *value++ = source[col];
                set_bit(mask, col);
            }
        }
    });
}

void bitmask_validate(const Span& compressed, const Span& bitmask, const Span& row_offsets, int64_t cols) {
    if (cols < 0) throw Error("ShapeError", "negative number of columns", "cols", "0 or more");
    require_shape(compressed, "compressed", {-1});
    require_contiguous(compressed, "compressed");
    require_dtype(bitmask, "bitmask", core::DType::U8);
    require_matrix(bitmask, "bitmask", -1, bitmask_bytes(cols));
    require_dtype(row_offsets, "row_offsets", core::DType::I64);
    require_shape(row_offsets, "row_offsets", {bitmask.shape[0]});
    require_contiguous(row_offsets, "row_offsets");
    int64_t count = 0;
    for (int64_t row = 0; row < bitmask.shape[0]; ++row) {
        const uint8_t* mask = bitmask.as<const uint8_t>() + row * bitmask_bytes(cols);
        check_row_padding(mask, row, cols, "bitmask");
        if (row_offsets.as<const int64_t>()[row] != count) {
            throw Error("IndexTableError",
                        "row_offsets holds " + std::to_string(row_offsets.as<const int64_t>()[row]),
                        "row " + std::to_string(row), std::to_string(count) + ", the bits set in the rows above");
        }
        for (int64_t i = 0; i < bitmask_bytes(cols); ++i) count += __builtin_popcount(mask[i]);
    }
    if (count != compressed.shape[0]) {
        throw Error("IndexTableError", "compressed holds " + std::to_string(compressed.shape[0]) + " values",
                    "compressed", std::to_string(count) + ", the bits set in the bitmask");
    }
}

void bitmask_unpack(const Span& compressed, const Span& bitmask, const Span& row_offsets, const Span& dense) {
    require_matrix(dense, "dense", -1, -1);
    const int64_t rows = dense.shape[0], cols = dense.shape[1];
    require_dtype(compressed, "compressed", dense.dtype);
    require_matrix(bitmask, "bitmask", rows, bitmask_bytes(cols));
    bitmask_validate(compressed, bitmask, row_offsets, cols);
    for (const Span* in : {&compressed, &bitmask, &row_offsets}) require_disjoint(dense, "dense", *in, "input");
    expand_bitmask(compressed, bitmask, dense);
}

}  // namespace sparsecore::formats
