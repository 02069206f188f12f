// Layout 0 (stored form, row-major blocks), layout 1 (column-major blocks, AVX-512) and layout 2 (layout_rows.h).
#include <cstring>

#include "core/error.h"
#include "cpu/block_linear/block_linear.h"
#include "cpu/block_linear/layout_rows.h"
#include "cpu/stored_layout.h"

namespace sparsecore::cpu {

namespace {

using formats::Geometry;
using formats::Resident;
using formats::Stored;

BlockWeight view(const Resident& resident, bool column_major) {
    const Geometry& g = resident.geometry;
    BlockWeight weight;
    weight.dtype = g.dtype;
    weight.rows = g.rows;
    weight.cols = g.cols;
    weight.block_rows = g.p0;
    weight.block_cols = g.p1;
    weight.column_major = column_major;
    weight.blocks = resident.sections[0];
    weight.columns = resident.section<int32_t>(1);
    weight.row_offsets = resident.section<int64_t>(2);
    return weight;
}

void linear_stored(const Resident& resident, const LinearCall& call) { block_linear(call, view(resident, false)); }
void linear_columns(const Resident& resident, const LinearCall& call) { block_linear(call, view(resident, true)); }

// Narrower blocks would leave most of a vector empty.
bool supports_columns(const Geometry& g) { return g.p0 >= kNarrowRows; }

void fill_columns(const Stored& stored, const Resident& out) {
    const Geometry& g = stored.geometry;
    formats::fill_stored(stored, out);
    block_transpose(g.dtype, g.kept, g.p0, g.p1, stored.values.data, out.sections[0]);
}

void restore_columns(const Resident& resident, const Stored& out) {
    const Geometry& g = resident.geometry;
    block_transpose(g.dtype, g.kept, g.p1, g.p0, resident.sections[0], out.values.data);
    const core::Span* tables[] = {&out.positions, &out.offsets};
    for (int i = 0; i < 2; ++i) {
        const int64_t bytes = resident.section_bytes[i + 1];
        if (bytes > 0) std::memcpy(tables[i]->data, resident.sections[i + 1], static_cast<size_t>(bytes));
    }
}

}  // namespace

const std::vector<Layout>& block_layouts() {
    static const std::vector<Layout> table = {
        stored_layout(formats::Kind::Block, linear_stored),
        {formats::Kind::Block, 1, core::Isa::Avx512, "columns", supports_columns, formats::stored_sections, fill_columns,
         restore_columns, formats::check_stored_sections, linear_columns},
        block_rows_layout(),
    };
    return table;
}

}  // namespace sparsecore::cpu
