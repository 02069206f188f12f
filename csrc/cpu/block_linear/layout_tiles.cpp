// The bands layout in bf16 for AMX: the same bytes, another kernel.
#include "cpu/amx/strip_linear.h"
#include "cpu/block_linear/bands.h"
#include "cpu/block_linear/layout_bands.h"
#include "cpu/block_linear/tile_windows.h"

namespace sparsecore::cpu {

#if defined(SPARSECORE_HAVE_AMX)

namespace {

using formats::Geometry;
using formats::Resident;

constexpr int64_t kWindow = 32;  // columns

bool supports(const Geometry& g) {
    static const bool has_bf16 = core::cpu_has("avx512bf16");
    return has_bf16 && g.dtype == core::DType::BF16 && g.p0 >= kBandMinimumRows && g.p1 % 2 == 0 &&
           g.cols <= INT32_MAX - kWindow;
}

int64_t windows(const void* weight, int64_t strip, int64_t count, int32_t* columns) {
    return block_windows(*static_cast<const BlockWeight*>(weight), strip, count, kWindow, columns);
}

void linear(const Resident& resident, const LinearCall& call) {
    const BlockWeight weight = block_view(resident);
    StripSource source{&weight, weight.rows / kStripOutputs + (weight.rows % kStripOutputs != 0)};
    source.panel_strips = weight.block_rows % (2 * kStripOutputs) == 0 ? 2 : 1;
    source.open = open_block_strip;
    source.expand = expand_block_pairs_avx512;
    source.windows = windows;
    if (!supports(resident.geometry) || !strip_linear_amx(call, source)) block_linear_bands_avx512(call, weight);
}

}  // namespace

Layout block_tiles_layout(uint32_t id) {
    Layout layout = block_bands_layout(id, core::Isa::Amx, supports);
    layout.name = "bands for tiles";
    layout.linear = linear;
    return layout;
}

#endif

}  // namespace sparsecore::cpu
