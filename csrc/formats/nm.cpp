#include "formats/nm.h"

#include <algorithm>
#include <cstring>

#include "core/checked.h"
#include "formats/bits.h"

namespace sparsecore::formats {

using core::Error;
using core::Span;

void nm_check_pattern(int64_t n, int64_t m) {
    if (n < 1 || n >= m || m > 32) {
        throw Error("PatternError", "unsupported pattern " + std::to_string(n) + ":" + std::to_string(m), "n, m",
                    "1 <= n < m <= 32");
    }
}

int64_t nm_kept_per_row(int64_t cols, int64_t n, int64_t m) {
    nm_check_pattern(n, m);
    if (cols < 0) throw Error("ShapeError", "negative number of columns", "cols", "0 or more");
    return cols / m * n + std::min(n, cols % m);  // below cols, so it cannot overflow
}

namespace {

std::string group_place(int64_t row, int64_t group, int64_t begin, int64_t end) {
    return "row " + std::to_string(row) + ", group " + std::to_string(group) + " (columns " + std::to_string(begin) +
           " to " + std::to_string(end - 1) + ")";
}

// Positions kept in one group as a bit set; `size` <= 32.
template <class T>
uint32_t choose(const T* group, int size, int keep, const ZeroTest<T>& is_zero, int* nonzeros) {
    uint32_t kept = 0;
    int count = 0;
    for (int i = 0; i < size; ++i) {
        if (!is_zero(group[i])) {
            kept |= 1u << i;
            ++count;
        }
    }
    *nonzeros = count;
    for (int i = 0; i < size && count < keep; ++i) {  // zeros with a sign bit
        if (is_zero(group[i]) && group[i] != 0) {
            kept |= 1u << i;
            ++count;
        }
    }
    for (int i = 0; i < size && count < keep; ++i) {
        if ((kept >> i & 1u) == 0) {
            kept |= 1u << i;
            ++count;
        }
    }
    return kept;
}

template <class T>
void pack_row(const Span& dense, int64_t row, int64_t n, int64_t m, T* values, uint8_t* mask) {
    const int64_t cols = dense.shape[1];
    const T* source = dense.as<const T>() + row * cols;
    const ZeroTest<T> is_zero(dense.dtype);
    for (int64_t begin = 0; begin < cols; begin += m) {
        const int size = static_cast<int>(std::min(m, cols - begin));
        const int keep = static_cast<int>(std::min<int64_t>(n, size));
        int nonzeros = 0;
        const uint32_t kept = choose(source + begin, size, keep, is_zero, &nonzeros);
        if (nonzeros > keep) {
            throw Error("PatternError", "a group has " + std::to_string(nonzeros) + " non-zero values",
                        group_place(row, begin / m, begin, begin + size),
                        "at most " + std::to_string(keep) + " for " + std::to_string(n) + ":" + std::to_string(m),
                        "prune the weight to this pattern first");
        }
        for (int i = 0; i < size; ++i) {
            if (kept >> i & 1u) {
                *values++ = source[begin + i];
                set_bit(mask, begin + i);
            }
        }
    }
}

}  // namespace

void nm_pack(const Span& dense, int64_t n, int64_t m, const Span& compressed, const Span& bitmask) {
    require_matrix(dense, "dense", -1, -1);
    const int64_t rows = dense.shape[0], cols = dense.shape[1], kept = nm_kept_per_row(cols, n, m);
    require_dtype(compressed, "compressed", dense.dtype);
    require_matrix(compressed, "compressed", rows, kept);
    require_dtype(bitmask, "bitmask", core::DType::U8);
    require_matrix(bitmask, "bitmask", rows, bitmask_bytes(cols));
    require_disjoint(compressed, "compressed", dense, "dense");
    require_disjoint(bitmask, "bitmask", dense, "dense");
    const int64_t mask_stride = bitmask_bytes(cols);
    if (rows * mask_stride > 0) std::memset(bitmask.data, 0, static_cast<size_t>(rows * mask_stride));
    for_element_type(dense.dtype, "dense", [&](auto element) {
        using T = decltype(element);
        for (int64_t row = 0; row < rows; ++row) {
            pack_row<T>(dense, row, n, m, compressed.as<T>() + row * kept, bitmask.as<uint8_t>() + row * mask_stride);
        }
    });
}

void nm_unpack(const Span& compressed, const Span& bitmask, int64_t n, int64_t m, const Span& dense) {
    require_matrix(dense, "dense", -1, -1);
    const int64_t rows = dense.shape[0], cols = dense.shape[1], kept = nm_kept_per_row(cols, n, m);
    require_dtype(compressed, "compressed", dense.dtype);
    require_matrix(compressed, "compressed", rows, kept);
    require_matrix(bitmask, "bitmask", rows, bitmask_bytes(cols));
    require_disjoint(dense, "dense", compressed, "compressed");
    require_disjoint(dense, "dense", bitmask, "bitmask");
    nm_validate_bitmask(bitmask, cols, n, m);  // afterwards each row has exactly `kept` bits
    expand_bitmask(compressed, bitmask, dense);
}

namespace {

// How many bytes of a row, from its first on, are known to keep n of every m: a byte at a time where groups fit into one.
int64_t whole_bytes(const uint8_t* mask, int64_t cols, int64_t n, int64_t m) {
    if (8 % m != 0) return 0;
    bool right[256];
    for (int byte = 0; byte < 256; ++byte) {
        right[byte] = true;
        for (int64_t first = 0; first < 8; first += m) {
            right[byte] = right[byte] && __builtin_popcount(static_cast<unsigned>(byte) >> first & ((1u << m) - 1u)) == n;
        }
    }
    int64_t byte = 0;
    while (byte < cols / 8 && right[mask[byte]]) ++byte;
    return byte;
}

}  // namespace

void nm_validate_bitmask(const Span& bitmask, int64_t cols, int64_t n, int64_t m) {
    nm_kept_per_row(cols, n, m);
    require_dtype(bitmask, "bitmask", core::DType::U8);
    require_matrix(bitmask, "bitmask", -1, bitmask_bytes(cols));
    for (int64_t row = 0; row < bitmask.shape[0]; ++row) {
        const uint8_t* mask = bitmask.as<const uint8_t>() + row * bitmask_bytes(cols);
        check_row_padding(mask, row, cols, "bitmask");
        for (int64_t begin = whole_bytes(mask, cols, n, m) * 8; begin < cols; begin += m) {
            const int64_t end = std::min(begin + m, cols), expected = std::min(n, end - begin);
            int64_t count = 0;
            for (int64_t col = begin; col < end; ++col) count += test_bit(mask, col);
            if (count != expected) {
                throw Error("IndexTableError", "a group of the bitmask keeps " + std::to_string(count) + " positions",
                            group_place(row, begin / m, begin, end), "exactly " + std::to_string(expected));
            }
        }
    }
}

}  // namespace sparsecore::formats
