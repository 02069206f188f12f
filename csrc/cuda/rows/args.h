// What the launches of gather and scatter take, in plain data. Rows travel as bytes; strides are in bytes and pointers are device
// memory.
#pragma once

#include <cstdint>

namespace sparsecore::cuda {

// Row (b, s) of the m moved rows goes between [b, s] of `packed` and [b, place(b, s)] of `whole`.
struct RowsArgs {
    unsigned char *packed, *whole;
    const std::int64_t* places;  // [batch, m]
    std::uint32_t* sources;      // scatter: [batch, rows], the last slot for each row, plus 1; 0: none
    std::int64_t packed_batch_stride, packed_row_stride;
    std::int64_t whole_batch_stride, whole_row_stride;
    std::int64_t place_batch_stride, place_stride;  // in elements
    std::int64_t batch, m, rows, bytes;             // rows of a sequence of `whole`, bytes of a row
    int unit;                                       // 1, 2, 4, 8 or 16 bytes: what all addresses are multiples of
};

}  // namespace sparsecore::cuda
