#include "cpu/int8_linear/rows.h"

#include <algorithm>
#include <cstring>

#include "formats/bits.h"
#include "formats/nm.h"

namespace sparsecore::cpu {

namespace {

using formats::Geometry;
using formats::Stored;

int64_t nm_entries(const Stored& w, int64_t row, int32_t* columns, int8_t* values) {
    const Geometry& g = w.geometry;
    const int64_t kept = w.values.shape[1];
    formats::nm_row_columns(w.positions, g.codes, row, g.cols, g.p0, g.p1, columns);
    std::copy_n(w.values.as<const int8_t>() + row * kept, kept, values);
    return kept;
}

int64_t bitmask_entries(const Stored& w, int64_t row, int32_t* columns, int8_t* values) {
    const Geometry& g = w.geometry;
    const auto* offsets = w.offsets.as<const int64_t>();
    const uint8_t* bits = w.positions.as<const uint8_t>() + row * formats::bitmask_bytes(g.cols);
    const int64_t first = offsets[row], most = (row + 1 < g.rows ? offsets[row + 1] : g.kept) - first;
    int64_t count = 0;
    for (int64_t column = 0; column < g.cols && count < most; ++column) {
        if (formats::test_bit(bits, column)) columns[count++] = static_cast<int32_t>(column);
    }
    std::copy_n(w.values.as<const int8_t>() + first, count, values);
    return count;
}

int64_t block_entries(const Stored& w, int64_t row, int32_t* columns, int8_t* values) {
    const Geometry& g = w.geometry;
    const auto* block_columns = w.positions.as<const int32_t>();
    const auto* offsets = w.offsets.as<const int64_t>();
    const int64_t block_row = row / g.p0, in_block = row % g.p0;
    int64_t count = 0;
    for (int64_t b = offsets[block_row]; b < offsets[block_row + 1]; ++b) {
        const int64_t first = block_columns[b] * g.p1, width = std::min(g.p1, g.cols - first);
        std::copy_n(w.values.as<const int8_t>() + (b * g.p0 + in_block) * g.p1, width, values + count);
        for (int64_t i = 0; i < width; ++i) columns[count++] = static_cast<int32_t>(first + i);
    }
    return count;
}

}  // namespace

int64_t int8_row_entries(const Stored& weight, int64_t row, int32_t* columns, int8_t* values) {
    switch (weight.geometry.kind) {
        case formats::Kind::NM: return nm_entries(weight, row, columns, values);
        case formats::Kind::Bitmask: return bitmask_entries(weight, row, columns, values);
        case formats::Kind::Block: break;
    }
    return block_entries(weight, row, columns, values);
}

}  // namespace sparsecore::cpu
