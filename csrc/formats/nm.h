// N:M sparsity: n of every m consecutive inputs of a row are kept, 1 <= n < m <= 32. The last group of a row may be
// shorter than m and then keeps min(n, its length). A group with fewer non-zeros keeps zeros as well, so that every
// row keeps the same count: non-zero values first, then -0.0 (the round trip keeps its sign), then the lowest index.
// Kept values are stored in ascending position, their positions either as a bitmask over the columns or as codes:
// ceil(log2 m) bits each, the position within the group. All bit strings are in little bit order, each row starting
// on a byte. compressed + bitmask for 2:4 is what compressed-tensors calls sparse-24-bitmask.
#pragma once

#include <cstdint>
#include <vector>

#include "core/span.h"

namespace sparsecore::formats {

void nm_check_pattern(int64_t n, int64_t m);
int64_t nm_kept_per_row(int64_t cols, int64_t n, int64_t m);
int nm_code_bits(int64_t m);
int64_t nm_code_bytes(int64_t kept_per_row, int64_t m);

// dense [rows, cols] -> compressed [rows, kept], bitmask u8 [rows, ceil(cols / 8)]. More than n non-zeros in a
// group: PatternError with its place.
void nm_pack(const core::Span& dense, int64_t n, int64_t m, const core::Span& compressed, const core::Span& bitmask);
void nm_unpack(const core::Span& compressed, const core::Span& bitmask, int64_t n, int64_t m, const core::Span& dense);

// Every group keeps its exact count and padding bits are zero, else IndexTableError with row and group.
void nm_validate_bitmask(const core::Span& bitmask, int64_t cols, int64_t n, int64_t m);
// Codes ascend within each group, lie inside it, and padding bits are zero.
void nm_validate_codes(const core::Span& codes, int64_t cols, int64_t n, int64_t m);

// bitmask u8 [rows, ceil(cols / 8)] <-> codes u8 [rows, ceil(kept * bits / 8)]; the input is validated.
void nm_bitmask_to_codes(const core::Span& bitmask, int64_t cols, int64_t n, int64_t m, const core::Span& codes);
void nm_codes_to_bitmask(const core::Span& codes, int64_t cols, int64_t n, int64_t m, const core::Span& bitmask);

// Columns of the kept values of one row, ascending, from either form of positions. Always writes nm_kept_per_row
// columns inside the row; only a table that was never validated makes them wrong.
void nm_row_columns(const core::Span& positions, bool codes, int64_t row, int64_t cols, int64_t n, int64_t m,
                    int32_t* columns);

// Codes of whole rows, one byte each, from either form of validated positions; made once, then asked row by row.
class NmCodeReader {
public:
    NmCodeReader(const core::Span& positions, bool codes, int64_t cols, int64_t n, int64_t m);
    // Writes nm_kept_per_row codes and up to 7 bytes more.
    void read(int64_t row, uint8_t* codes);

private:
    const core::Span& positions_;
    bool codes_;
    int64_t cols_, n_, m_, kept_;
    std::vector<int32_t> columns_;
};

}  // namespace sparsecore::formats
