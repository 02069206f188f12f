#include "cuda/block_linear/block_linear.h"

#include "core/error.h"
#include "cuda/block_linear/layout.h"
#include "cuda/common/linear_call.h"

namespace sparsecore::cuda {

using core::Span;

BlockArgs block_linear_call(const Span& x, const Span& resident, int64_t height, int64_t width, int64_t kept, const Span* bias,
                            const Span& out, cpu::Activation activation) {
    core::require_shape(x, "x", {-1, -1});
    core::require_shape(out, "out", {x.shape[0], -1});
    if (!block_fits_tensor_cores(x.dtype, height, width)) {
        throw core::Error("UnsupportedError",
                          "no CUDA kernel for " + std::string(core::dtype_name(x.dtype)) + " blocks of " + std::to_string(height) +
                              "x" + std::to_string(width),
                          "cuda_block_linear", "bf16 or f16, heights and widths of 16, 32, 64 or 128", "expand the weight instead");
    }
    if (kept < 0) throw core::Error("ShapeError", "negative number of blocks", "kept", "0 or more");
    const formats::Geometry geometry{formats::Kind::Block, x.dtype, out.shape[1], x.shape[1], height, width, kept, false};
    const formats::Sections sections = block_sections(geometry);
    BlockArgs args{};
    static_cast<LinearArgs&>(args) = check_linear_call(x, resident, formats::resident_bytes(sections), bias, out, activation);
    const auto at = [&](int section) { return resident.as<const uint8_t>() + formats::section_start(sections, section); };
    args.values = reinterpret_cast<const uint16_t*>(at(0));
    args.columns = reinterpret_cast<const int32_t*>(at(1));
    args.row_offsets = reinterpret_cast<const int64_t*>(at(2));
    args.band_rows = reinterpret_cast<const int32_t*>(at(3));
    args.band_steps = reinterpret_cast<const int64_t*>(at(4));
    args.steps = reinterpret_cast<const uint32_t*>(at(5));
    args.bands = sections.bytes[4] / static_cast<int64_t>(sizeof(int64_t)) - 1;
    args.height = static_cast<int>(height);
    args.width = static_cast<int>(width);
    return args;
}

}  // namespace sparsecore::cuda
