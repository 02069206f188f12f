#include "cuda/expand/expand.h"

#include "core/checked.h"
#include "core/error.h"
#include "cuda/block_linear/layout.h"
#include "cuda/nm_linear/byte_octets/place.h"
#include "cuda/nm_linear/int8/layout.h"
#include "cuda/nm_linear/nm_linear.h"
#include "cuda/nm_linear/octets/place.h"
#include "cuda/resident.h"
#include "formats/nm.h"

namespace sparsecore::cuda {

namespace {

using core::Span;
using formats::Geometry;
using formats::Kind;

// The layout of an N:M weight, and what its kernel has to know of it.
void describe_nm(const Geometry& g, uint32_t layout, ExpandCall& call) {
    const int64_t kept = formats::nm_kept_per_row(g.cols, g.p0, g.p1);
    ExpandArgs& args = call.args;
    switch (layout) {
        case kCudaTwoFourLayout:
            call.layout = ExpandLayout::TwoFour;
            args.chunks = core::ceil_div(g.cols, int64_t{kTileColumns});
            return;
        case kCudaInt8Layout:
            call.layout = ExpandLayout::TwoFourBytes;
            args.chunks = core::ceil_div(g.cols, int64_t{kInt8TileColumns});
            return;
        case kCudaOctetLayout:
            call.layout = ExpandLayout::Octets;
            args.chunks = core::ceil_div(kept, int64_t{kOctetKept});
            args.code_bits = octet_code_bits(static_cast<int>(g.p1));
            return;
        case kCudaByteOctetLayout:
            call.layout = ExpandLayout::ByteOctets;
            args.chunks = core::ceil_div(kept, int64_t{kByteOctetKept});
            return;
        case kCudaGathered64Layout:
        case kCudaGathered128Layout:
            call.layout = ExpandLayout::Gathered;
            args.chunks = core::ceil_div(core::ceil_div(g.cols, g.p1), int64_t{kTileGroups});
            args.block_rows = layout == kCudaGathered64Layout ? 64 : 128;
            return;
        default:
            call.layout = ExpandLayout::Groups;
            args.chunks = core::ceil_div(kept, int64_t{kChunk});
            args.code_bits = position_bits(g.p1);
    }
}

void require_resident(const Span& resident, int64_t bytes) {
    core::require_dtype(resident, "resident", core::DType::U8);
    core::require_shape(resident, "resident", {bytes});
    core::require_contiguous(resident, "resident");
    if (reinterpret_cast<uintptr_t>(resident.data) % 16 != 0) {
        throw core::Error("SpanError", "misaligned pointer", "resident", "a multiple of 16 bytes");
    }
}

}  // namespace

ExpandCall expand_call(const Geometry& g, uint32_t layout, const Span& resident, const Span& out, bool marks_pruned) {
    core::require_dtype(out, "out", g.dtype);
    core::require_shape(out, "out", {g.rows, g.cols});
    core::require_contiguous(out, "out");
    ExpandCall call{};
    formats::Sections sections;
    if (g.kind == Kind::NM) {
        const NmSections nm = nm_sections(g.dtype, g.rows, g.cols, g.p0, g.p1, layout);
        sections = nm.sections;
        describe_nm(g, nm.layout, call);
    } else {
        if (!core::is_float(g.dtype)) {
            throw core::Error("UnsupportedError", "no kernel expands " + std::string(core::dtype_name(g.dtype)) + " weights of this kind",
                              formats::kind_name(g.kind), "a float type");
        }
        sections = resident_sections(g);
        const bool tiled = g.kind == Kind::Block && block_fits_tensor_cores(g.dtype, g.p0, g.p1);
        call.layout = g.kind == Kind::Bitmask ? ExpandLayout::Bitmask : tiled ? ExpandLayout::TiledBlocks : ExpandLayout::Blocks;
    }
    require_resident(resident, formats::resident_bytes(sections));
    core::require_disjoint(out, "out", resident, "resident");
    const auto at = [&](int section) { return resident.as<const uint8_t>() + formats::section_start(sections, section); };
    ExpandArgs& args = call.args;
    args.values = at(0);
    args.positions = at(1);
    args.extra = sections.count > 2 ? at(2) : nullptr;
    args.out = out.data;
    args.rows = g.rows;
    args.cols = g.cols;
    args.first = g.p0;
    args.second = g.p1;
    args.marks_pruned = marks_pruned;
    return call;
}

RepairArgs repair_call(const Span& a, const Span& weight, const Span* bias, const Span& out) {
    core::require_shape(out, "out", {-1, -1});
    core::require_float(out, "out");
    core::require_contiguous(out, "out");
    core::require_shape(a, "a", {out.shape[0], -1});
    core::require_dtype(a, "a", out.dtype);
    core::require_shape(weight, "weight", {out.shape[1], a.shape[1]});
    core::require_dtype(weight, "weight", out.dtype);
    core::require_disjoint(out, "out", a, "a");
    core::require_disjoint(out, "out", weight, "weight");
    RepairArgs args{a.data, weight.data, out.data, a.strides[0], a.strides[1], weight.strides[0], weight.strides[1],
                    out.shape[0], out.shape[1], a.shape[1], nullptr};
    if (bias != nullptr) {
        core::require_shape(*bias, "bias", {out.shape[1]});
        core::require_dtype(*bias, "bias", out.dtype);
        core::require_contiguous(*bias, "bias");
        args.bias = bias->data;
    }
    return args;
}

}  // namespace sparsecore::cuda
