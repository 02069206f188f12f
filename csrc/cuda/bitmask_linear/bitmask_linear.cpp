#include "cuda/bitmask_linear/bitmask_linear.h"

#include "core/checked.h"
#include "core/error.h"
#include "cuda/bitmask_linear/layout.h"
#include "cuda/common/linear_call.h"

namespace sparsecore::cuda {

using core::Span;

BitmaskArgs bitmask_linear_call(const Span& x, const Span& resident, int64_t kept, const Span* bias, const Span& out,
                                cpu::Activation activation) {
    core::require_shape(x, "x", {-1, -1});
    core::require_float(x, "x");
    core::require_shape(out, "out", {x.shape[0], -1});
    if (core::itemsize(x.dtype) != 2) {
        throw core::Error("UnsupportedError", "no CUDA kernel for unstructured fp32 weights", "cuda_bitmask_linear", "bf16 or f16",
                          "expand the weight instead");
    }
    if (kept < 0) throw core::Error("ShapeError", "negative number of values", "kept", "0 or more");
    const formats::Sections sections =
        bitmask_sections({formats::Kind::Bitmask, x.dtype, out.shape[1], x.shape[1], 0, 0, kept, false});
    BitmaskArgs args{};
    static_cast<LinearArgs&>(args) = check_linear_call(x, resident, formats::resident_bytes(sections), bias, out, activation);
    const auto at = [&](int section) { return resident.as<const uint8_t>() + formats::section_start(sections, section); };
    args.values = at(0);
    args.masks = reinterpret_cast<const uint32_t*>(at(1));
    args.starts = reinterpret_cast<const uint32_t*>(at(2));
    args.row_tiles = core::ceil_div(args.rows, int64_t{bitmask::kTileRows});
    args.column_tiles = core::ceil_div(args.cols, int64_t{bitmask::kTileColumns});
    return args;
}

}  // namespace sparsecore::cuda
