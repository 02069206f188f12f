// Layout 0 (stored form, portable kernel); "bitmask": the same tensors for vector kernels; "indexed": values, columns
// within their chunk, counts of each row and chunk, row offsets. The index of a value is a byte, so that 16-bit values
// that are not sparse take less with the bitmask.
#include <cstring>

#include "core/checked.h"
#include "core/error.h"
#include "cpu/bitmask_linear/bitmask_linear.h"
#include "cpu/stored_layout.h"

namespace sparsecore::cpu {

namespace {

using formats::Geometry;
using formats::Resident;
using formats::Sections;
using formats::Stored;

enum IndexedSection { kValues, kColumns, kCounts, kRowOffsets, kIndexedSections };
// 1 was another layout.
enum LayoutId : uint32_t { kAvx2Bitmask = 2, kAvx2Indexed, kAvx512Bitmask, kAvx512Indexed, kAmxBitmask, kAmxIndexed };

using Linear = void (*)(const LinearCall&, const BitmaskWeight&);

BitmaskWeight view(const Resident& resident) {
    const Geometry& g = resident.geometry;
    BitmaskWeight weight;
    weight.dtype = g.dtype;
    weight.rows = g.rows;
    weight.cols = g.cols;
    weight.nnz = g.kept;
    weight.values = resident.sections[0];
    return weight;
}

template <Linear kLinear>
void linear_bitmask(const Resident& resident, const LinearCall& call) {
    BitmaskWeight weight = view(resident);
    weight.bitmask = resident.sections[1];
    weight.row_offsets = resident.section<int64_t>(2);
    kLinear(call, weight);
}

template <Linear kLinear>
void linear_indexed(const Resident& resident, const LinearCall& call) {
    BitmaskWeight weight = view(resident);
    weight.columns = resident.sections[kColumns];
    weight.counts = resident.sections[kCounts];
    weight.row_offsets = resident.section<int64_t>(kRowOffsets);
    kLinear(call, weight);
}

Sections indexed_sizes(const Geometry& g) {
    return {kIndexedSections,
            {core::checked_mul(g.kept, core::itemsize(g.dtype), "values"), g.kept,
             core::checked_mul(g.rows, chunk_count(g.cols), "counts"), core::checked_mul(g.rows, 8, "row offsets")}};
}

Sections indexed_sections(const Stored& stored) { return indexed_sizes(stored.geometry); }

// A call reads the lists as they are; they may take this much more than the stored form, of the 1.25 that a layer may.
bool supports_indexed(const Geometry& g) {
    constexpr double kMostBytes = 1.22;
    const formats::PartBytes stored = part_bytes(g);
    const Sections indexed = indexed_sizes(g);
    double bytes = 0;
    for (int i = 0; i < indexed.count; ++i) bytes += static_cast<double>(indexed.bytes[i]);
    return bytes <= kMostBytes * static_cast<double>(core::checked_add(
                                     stored.values, core::checked_add(stored.positions, stored.offsets, "bytes"), "bytes"));
}

void fill_indexed(const Stored& stored, const Resident& out) {
    const Geometry& g = stored.geometry;
    if (g.kept > 0) std::memcpy(out.sections[kValues], stored.values.data, static_cast<size_t>(out.section_bytes[kValues]));
    bitmask_to_lists(stored.positions.as<const uint8_t>(), g.rows, g.cols, out.sections[kColumns], out.sections[kCounts]);
    if (g.rows > 0) std::memcpy(out.sections[kRowOffsets], stored.offsets.data, static_cast<size_t>(g.rows * 8));
}

// A damaged table is refused before its positions say where to write.
void check_positions(const Resident& resident) {
    const Geometry& g = resident.geometry;
    const uint8_t *columns = resident.sections[kColumns], *counts = resident.sections[kCounts];
    const auto* offsets = resident.section<const int64_t>(kRowOffsets);
    int64_t place = 0;
    bool valid = true;
    for (int64_t row = 0; valid && row < g.rows; ++row) {
        valid = offsets[row] == place;
        for (int64_t first = 0; valid && first < g.cols; first += kChunk) {
            const int64_t end = place + *counts++;
            valid = end <= g.kept;
            int64_t previous = -1;
            for (; valid && place < end; ++place) {
                valid = columns[place] > previous && columns[place] < kChunk && first + columns[place] < g.cols;
                previous = columns[place];
            }
        }
    }
    if (!valid || place != g.kept) {
        throw core::Error("IndexTableError", "columns, counts or row offsets are damaged", "resident",
                          "ascending columns inside each chunk, counts that add up", "make it again from the stored form");
    }
}

void restore_indexed(const Resident& resident, const Stored& out) {
    check_positions(resident);
    const Geometry& g = resident.geometry;
    if (g.kept > 0) std::memcpy(out.values.data, resident.sections[kValues], static_cast<size_t>(resident.section_bytes[kValues]));
    if (g.rows > 0) std::memcpy(out.offsets.data, resident.sections[kRowOffsets], static_cast<size_t>(g.rows * 8));
    const int64_t mask_bytes = part_bytes(g).positions;
    if (mask_bytes > 0) std::memset(out.positions.data, 0, static_cast<size_t>(mask_bytes));
    lists_to_bitmask(resident.sections[kColumns], resident.sections[kCounts], g.rows, g.cols, out.positions.as<uint8_t>());
}

void check_indexed(const Resident& resident) {
    const Sections expected = indexed_sizes(resident.geometry);
    bool same = resident.section_count == expected.count;
    for (int i = 0; same && i < expected.count; ++i) same = resident.section_bytes[i] == expected.bytes[i];
    if (!same) {
        throw core::Error("ResidentError", "section lengths do not fit the header", "resident",
                          "an unmodified resident weight", "make it again from the stored form");
    }
}

template <Linear kLinear>
Layout bitmask_layout(LayoutId id, core::Isa isa) {
    Layout layout = stored_layout(formats::Kind::Bitmask, linear_bitmask<kLinear>);
    layout.id = id;
    layout.isa = isa;
    layout.name = "bitmask";
    return layout;
}

template <Linear kLinear>
Layout indexed_layout(LayoutId id, core::Isa isa) {
    return {formats::Kind::Bitmask, id,           isa,          "indexed",     supports_indexed,
            indexed_sections,       fill_indexed, restore_indexed, check_indexed, linear_indexed<kLinear>};
}

#if defined(SPARSECORE_HAVE_AMX)
bool supports_tiles(const Geometry& g) { return g.dtype == core::DType::BF16; }
bool supports_indexed_tiles(const Geometry& g) { return supports_tiles(g) && supports_indexed(g); }

Layout with_support(Layout layout, bool (*supports)(const Geometry&)) {
    layout.supports = supports;
    return layout;
}
#endif

}  // namespace

const std::vector<Layout>& bitmask_layouts() {
    static const std::vector<Layout> table = {
        stored_layout(formats::Kind::Bitmask, linear_bitmask<bitmask_linear_portable>),
#if defined(SPARSECORE_HAVE_AVX2)
        bitmask_layout<bitmask_linear_avx2>(kAvx2Bitmask, core::Isa::Avx2),
        indexed_layout<bitmask_linear_avx2>(kAvx2Indexed, core::Isa::Avx2),
#endif
#if defined(SPARSECORE_HAVE_AVX512)
        bitmask_layout<bitmask_linear_avx512>(kAvx512Bitmask, core::Isa::Avx512),
        indexed_layout<bitmask_linear_avx512>(kAvx512Indexed, core::Isa::Avx512),
#endif
#if defined(SPARSECORE_HAVE_AMX)
        with_support(bitmask_layout<bitmask_linear_amx>(kAmxBitmask, core::Isa::Amx), supports_tiles),
        with_support(indexed_layout<bitmask_linear_amx>(kAmxIndexed, core::Isa::Amx), supports_indexed_tiles),
#endif
    };
    return table;
}

}  // namespace sparsecore::cpu
