#include "formats/block.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "core/checked.h"
#include "formats/bits.h"

namespace sparsecore::formats {

using core::ceil_div;
using core::Error;
using core::Span;

void block_check_pattern(int64_t r, int64_t c) {
    constexpr int64_t most = int64_t{1} << 20;
    if (r < 1 || c < 1 || r > most || c > most) {
        throw Error("PatternError", "unsupported block " + std::to_string(r) + "x" + std::to_string(c), "block",
                    "1 to " + std::to_string(most) + " rows and columns");
    }
}

namespace {

// The part of one block that lies inside the matrix.
struct Window {
    int64_t row, col, height, width;
};

Window window(int64_t rows, int64_t cols, int64_t r, int64_t c, int64_t block_row, int64_t block_col) {
    const int64_t row = block_row * r, col = block_col * c;
    return {row, col, std::min(r, rows - row), std::min(c, cols - col)};
}

template <class T>
bool any_nonzero(const Span& dense, const Window& w, const ZeroTest<T>& is_zero) {
    for (int64_t i = 0; i < w.height; ++i) {
        const T* value = dense.as<const T>() + (w.row + i) * dense.shape[1] + w.col;
        for (int64_t j = 0; j < w.width; ++j) {
            if (!is_zero(value[j])) return true;
        }
    }
    return false;
}

// Calls body(T{}, block_row, block_col, window) for every block with a non-zero, in storage order.
template <class Body>
void for_kept_blocks(const Span& dense, int64_t r, int64_t c, Body&& body) {
    require_matrix(dense, "dense", -1, -1);
    block_check_pattern(r, c);
    const int64_t rows = dense.shape[0], cols = dense.shape[1];
    for_element_type(dense.dtype, "dense", [&](auto element) {
        using T = decltype(element);
        const ZeroTest<T> is_zero(dense.dtype);
        for (int64_t i = 0; i < ceil_div(rows, r); ++i) {
            for (int64_t j = 0; j < ceil_div(cols, c); ++j) {
                const Window w = window(rows, cols, r, c, i, j);
                if (any_nonzero<T>(dense, w, is_zero)) body(element, i, j, w);
            }
        }
    });
}

void require_tables(const Span& blocks, const Span& block_cols, const Span& offsets, int64_t rows, int64_t r) {
    require_contiguous(blocks, "blocks");
    require_dtype(block_cols, "block_cols", core::DType::I32);
    require_shape(block_cols, "block_cols", {blocks.shape[0]});
    require_contiguous(block_cols, "block_cols");
    require_dtype(offsets, "block_row_offsets", core::DType::I64);
    require_shape(offsets, "block_row_offsets", {ceil_div(rows, r) + 1});
    require_contiguous(offsets, "block_row_offsets");
}

template <class T>
void check_block_padding(const T* block, int64_t index, int64_t r, int64_t c, const Window& w) {
    for (int64_t i = 0; i < r; ++i) {
        for (int64_t j = i < w.height ? w.width : 0; j < c; ++j) {
            if (block[i * c + j] != 0) {
                throw Error("PatternError", "padding of a block at the edge is not zero",
                            "block " + std::to_string(index) + ", element (" + std::to_string(i) + ", " +
                                std::to_string(j) + ")",
                            "zero outside the matrix");
            }
        }
    }
}

void check_block_row(const Span& block_cols, int64_t block_row, int64_t begin, int64_t end, int64_t col_count) {
    int64_t previous = -1;
    for (int64_t i = begin; i < end; ++i) {
        const int64_t col = block_cols.as<const int32_t>()[i];
        if (col <= previous || col >= col_count) {
            throw Error("IndexTableError", "block column " + std::to_string(col) + " is out of range or not ascending",
                        "block row " + std::to_string(block_row) + ", block " + std::to_string(i),
                        "above " + std::to_string(previous) + " and below " + std::to_string(col_count));
        }
        previous = col;
    }
}

}  // namespace

int64_t block_count(const Span& dense, int64_t r, int64_t c) {
    int64_t count = 0;
    for_kept_blocks(dense, r, c, [&](auto, int64_t, int64_t, const Window&) { ++count; });
    return count;
}

void block_pack(const Span& dense, int64_t r, int64_t c, const Span& blocks, const Span& block_cols,
                const Span& block_row_offsets) {
    const int64_t count = block_count(dense, r, c), rows = dense.shape[0], cols = dense.shape[1];
    require_dtype(blocks, "blocks", dense.dtype);
    require_shape(blocks, "blocks", {count, r, c});
    require_tables(blocks, block_cols, block_row_offsets, rows, r);
    for (const Span* out : {&blocks, &block_cols, &block_row_offsets}) require_disjoint(*out, "output", dense, "dense");
    if (ceil_div(cols, c) > std::numeric_limits<int32_t>::max()) {
        throw Error("ShapeError", "too many block columns for a 32-bit table", "dense");
    }
    if (count > 0) std::memset(blocks.data, 0, static_cast<size_t>(count * r * c * itemsize(dense.dtype)));
    std::fill_n(block_row_offsets.as<int64_t>(), ceil_div(rows, r) + 1, int64_t{0});
    int64_t index = 0;
    for_kept_blocks(dense, r, c, [&](auto element, int64_t block_row, int64_t block_col, const Window& w) {
        using T = decltype(element);
        for (int64_t i = 0; i < w.height; ++i) {
            std::memcpy(blocks.as<T>() + (index * r + i) * c, dense.as<const T>() + (w.row + i) * cols + w.col,
                        static_cast<size_t>(w.width) * sizeof(T));
        }
        block_cols.as<int32_t>()[index++] = static_cast<int32_t>(block_col);
        block_row_offsets.as<int64_t>()[block_row + 1] = index;
    });
    // an empty block row ends where the row above ends
    int64_t* offsets = block_row_offsets.as<int64_t>();
    for (int64_t i = 1; i <= ceil_div(rows, r); ++i) offsets[i] = std::max(offsets[i], offsets[i - 1]);
}

void block_validate(const Span& blocks, const Span& block_cols, const Span& block_row_offsets, int64_t rows,
                    int64_t cols) {
    require_shape(blocks, "blocks", {-1, -1, -1});
    const int64_t count = blocks.shape[0], r = blocks.shape[1], c = blocks.shape[2];
    block_check_pattern(r, c);
    if (rows < 0 || cols < 0) throw Error("ShapeError", "negative size", "rows, cols", "0 or more");
    require_tables(blocks, block_cols, block_row_offsets, rows, r);
    const int64_t* offsets = block_row_offsets.as<const int64_t>();
    const int64_t block_rows = ceil_div(rows, r), block_columns = ceil_div(cols, c);
    if (offsets[0] != 0 || offsets[block_rows] != count) {
        throw Error("IndexTableError", "block_row_offsets runs from " + std::to_string(offsets[0]) + " to " +
                                           std::to_string(offsets[block_rows]),
                    "block_row_offsets", "0 to " + std::to_string(count) + ", the number of blocks");
    }
    for (int64_t i = 0; i < block_rows; ++i) {  // all of them before any is used as an index
        if (offsets[i + 1] < offsets[i]) {
            throw Error("IndexTableError", "block_row_offsets falls from " + std::to_string(offsets[i]) + " to " +
                                               std::to_string(offsets[i + 1]),
                        "block row " + std::to_string(i), "offsets that never fall");
        }
    }
    for (int64_t i = 0; i < block_rows; ++i) check_block_row(block_cols, i, offsets[i], offsets[i + 1], block_columns);
    for_element_type(blocks.dtype, "blocks", [&](auto element) {
        using T = decltype(element);
        for (int64_t i = 0; i < block_rows; ++i) {
            for (int64_t b = offsets[i]; b < offsets[i + 1]; ++b) {
                const Window w = window(rows, cols, r, c, i, block_cols.as<const int32_t>()[b]);
                if (w.height < r || w.width < c) check_block_padding(blocks.as<const T>() + b * r * c, b, r, c, w);
            }
        }
    });
}

void block_unpack(const Span& blocks, const Span& block_cols, const Span& block_row_offsets, const Span& dense) {
    require_matrix(dense, "dense", -1, -1);
    const int64_t rows = dense.shape[0], cols = dense.shape[1];
    require_dtype(blocks, "blocks", dense.dtype);
    block_validate(blocks, block_cols, block_row_offsets, rows, cols);
    for (const Span* in : {&blocks, &block_cols, &block_row_offsets}) require_disjoint(dense, "dense", *in, "input");
    const int64_t r = blocks.shape[1], c = blocks.shape[2];
    if (rows * cols > 0) std::memset(dense.data, 0, static_cast<size_t>(rows * cols * itemsize(dense.dtype)));
    const int64_t* offsets = block_row_offsets.as<const int64_t>();
    for_element_type(dense.dtype, "dense", [&](auto element) {
        using T = decltype(element);
        for (int64_t i = 0; i < ceil_div(rows, r); ++i) {
            for (int64_t b = offsets[i]; b < offsets[i + 1]; ++b) {
                const Window w = window(rows, cols, r, c, i, block_cols.as<const int32_t>()[b]);
                for (int64_t y = 0; y < w.height; ++y) {
                    std::memcpy(dense.as<T>() + (w.row + y) * cols + w.col, blocks.as<const T>() + (b * r + y) * c,
                                static_cast<size_t>(w.width) * sizeof(T));
                }
            }
        }
    });
}

}  // namespace sparsecore::formats
