// Elements as raw bits: a format moves values and never interprets them beyond "is it zero".
#pragma once

#include <cstdint>
#include <string>

#include "core/error.h"
#include "core/span.h"

namespace sparsecore::formats {

// Zero of either sign where the type has two; bits that are all zero for integers.
template <class T>
struct ZeroTest {
    T magnitude;  // mask without the sign bit of a float type

    explicit ZeroTest(core::DType dtype)
        : magnitude(core::is_float(dtype) || dtype == core::DType::F8 ? static_cast<T>(static_cast<T>(~T{0}) >> 1)
                                                                      : static_cast<T>(~T{0})) {}
    bool operator()(T bits) const { return (bits & magnitude) == 0; }
};

// Calls body(T{}) with the unsigned integer as wide as one element.
template <class Body>
void for_element_type(core::DType dtype, const char* name, Body&& body) {
    switch (core::itemsize(dtype)) {
        case 1: body(uint8_t{}); return;
        case 2: body(uint16_t{}); return;
        case 4: body(uint32_t{}); return;
        default:
            throw core::Error("DtypeError", std::string("unsupported element type ") + core::dtype_name(dtype), name,
                              "elements of 1, 2 or 4 bytes");
    }
}

inline int64_t bitmask_bytes(int64_t cols) { return cols / 8 + (cols % 8 != 0); }
inline bool test_bit(const uint8_t* row, int64_t col) { return row[col >> 3] >> (col & 7) & 1; }
inline void set_bit(uint8_t* row, int64_t col) {
    row[col >> 3] = static_cast<uint8_t>(row[col >> 3] | 1u << (col & 7));
}

// `count` (1..8) bits that start at bit `start` of a little-bit-order byte string; never reads past the last of them.
inline unsigned read_bits(const uint8_t* bytes, int64_t start, int count) {
    const int shift = static_cast<int>(start & 7);
    unsigned word = bytes[start >> 3];
    if (shift + count > 8) word |= static_cast<unsigned>(bytes[(start >> 3) + 1]) << 8;
    return word >> shift & ((1u << count) - 1u);
}

// Ors the bits in: the bytes must hold zeros there.
inline void write_bits(uint8_t* bytes, int64_t start, int count, unsigned value) {
    const unsigned word = value << (start & 7);
    bytes[start >> 3] = static_cast<uint8_t>(bytes[start >> 3] | word);
    if ((start & 7) + count > 8) {
        bytes[(start >> 3) + 1] = static_cast<uint8_t>(bytes[(start >> 3) + 1] | word >> 8);
    }
}

// The bits of the last byte of a bitmask row that lie beyond the last column must be zero.
void check_row_padding(const uint8_t* row, int64_t row_index, int64_t cols, const char* name);

// Every function of this folder takes matrices as contiguous spans.
void require_matrix(const core::Span& span, const char* name, int64_t rows, int64_t cols);

// dense [rows, cols]: the next of `values` where a bit of the checked bitmask is set, zero elsewhere.
void expand_bitmask(const core::Span& values, const core::Span& bitmask, const core::Span& dense);

}  // namespace sparsecore::formats
