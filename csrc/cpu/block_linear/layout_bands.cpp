#include "cpu/block_linear/layout_bands.h"

#include "core/error.h"
#include "cpu/block_linear/bands.h"

namespace sparsecore::cpu {

namespace {

using formats::Geometry;
using formats::Resident;
using formats::Stored;

// body(place in bands, place in the stored blocks) of every weight.
template <class Body>
void for_places(const BlockWeight& w, Body&& body) {
    const int64_t inputs = step_inputs(w.dtype, w.block_cols), r = w.block_rows, c = w.block_cols;
    for (int64_t block_row = 0; block_row < block_row_count(w); ++block_row) {
        const int64_t begin = w.row_offsets[block_row], end = w.row_offsets[block_row + 1];
        for (int64_t first = 0; first < r; first += kBandRows) {
            const int64_t height = band_height(r, first);
            int64_t place = band_index(w, begin, end, first);
            for (int64_t block = begin; block < end; ++block) {
                for (int64_t k = 0; k < c; k += inputs) {
                    for (int64_t row = first; row < first + height; ++row) {
                        for (int64_t i = 0; i < inputs; ++i) body(place++, (block * r + row) * c + k + i);
                    }
                }
            }
        }
    }
}

template <class T>
void to_bands(const BlockWeight& w, const T* blocks, T* bands) {
    for_places(w, [&](int64_t band, int64_t block) { bands[band] = blocks[block]; });
}

template <class T>
void to_blocks(const BlockWeight& w, const T* bands, T* blocks) {
    for_places(w, [&](int64_t band, int64_t block) { blocks[block] = bands[band]; });
}

void fill(const Stored& stored, const Resident& out) {
    copy_tables(stored, out);
    const BlockWeight w = block_view(out);
    if (w.dtype == core::DType::F32) {
        to_bands(w, stored.values.as<const uint32_t>(), out.section<uint32_t>(0));
    } else {
        to_bands(w, stored.values.as<const uint16_t>(), out.section<uint16_t>(0));
    }
}

// A damaged table is refused before its offsets say where to read.
void check_offsets(const BlockWeight& w, int64_t kept) {
    const int64_t rows = block_row_count(w);
    bool valid = w.row_offsets[0] == 0 && w.row_offsets[rows] == kept;
    for (int64_t row = 0; row < rows; ++row) valid = valid && w.row_offsets[row] <= w.row_offsets[row + 1];
    if (!valid) {
        throw core::Error("IndexTableError", "block row offsets are damaged", "resident",
                          "ascending from 0 to the number of blocks", "make it again from the stored form");
    }
}

void restore(const Resident& resident, const Stored& out) {
    const BlockWeight w = block_view(resident);
    check_offsets(w, resident.geometry.kept);
    copy_tables(resident, out);
    if (w.dtype == core::DType::F32) {
        to_blocks(w, resident.section<const uint32_t>(0), out.values.as<uint32_t>());
    } else {
        to_blocks(w, resident.section<const uint16_t>(0), out.values.as<uint16_t>());
    }
}

template <void (*kLinear)(const LinearCall&, const BlockWeight&)>
void linear(const Resident& resident, const LinearCall& call) {
    kLinear(call, block_view(resident));
}

}  // namespace

Layout block_bands_layout(uint32_t id, core::Isa isa, bool (*supports)(const Geometry&)) {
    const auto run = isa == core::Isa::Avx2 ? linear<block_linear_bands_avx2> : linear<block_linear_bands_avx512>;
    return {formats::Kind::Block, id, isa, "bands", supports, slack_sections, fill, restore, check_slack_sections, run};
}

}  // namespace sparsecore::cpu
