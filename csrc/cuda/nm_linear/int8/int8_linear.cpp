#include "cuda/nm_linear/int8/int8_linear.h"

#include "core/checked.h"
#include "core/error.h"
#include "cuda/common/linear_call.h"
#include "cuda/nm_linear/nm_linear.h"
#include "cuda/nm_linear/plan.h"

namespace sparsecore::cuda {

namespace {

using core::DType;
using core::Span;

void check_workspace(const Span& span, const char* name, DType dtype, std::initializer_list<int64_t> shape, const Span& out) {
    core::require_dtype(span, name, dtype);
    core::require_shape(span, name, shape);
    core::require_contiguous(span, name);
    core::require_disjoint(span, name, out, "out");
}

}  // namespace

Int8Args int8_linear_call(const Span& x, const Span& resident, int64_t n, int64_t m, const Span* bias, const Span& out, cpu::Activation activation,
                          const Span& q, const Span& x_scales, const Span* workspace) {
    core::require_shape(x, "x", {-1, -1});
    core::require_shape(out, "out", {x.shape[0], -1});
    if (!core::is_quantised(q.dtype)) core::require_dtype(q, "q", DType::I8);
    const NmSections nm = nm_sections(q.dtype, out.shape[1], x.shape[1], n, m);
    const formats::Sections& sections = nm.sections;
    const bool other_bias = bias != nullptr && bias->dtype == DType::F32 && x.dtype != DType::F32;
    Int8Args args{};
    static_cast<LinearArgs&>(args.call) =
        check_linear_call(x, resident, formats::resident_bytes(sections), other_bias ? nullptr : bias, out, activation);
    if (other_bias) {
        core::require_shape(*bias, "bias", {out.shape[1]});
        core::require_disjoint(out, "out", *bias, "bias");
        args.call.bias = bias->data;
        args.call.bias_stride = bias->strides[0];
        args.bias_is_float = true;
    }
    check_workspace(q, "q", q.dtype, {x.shape[0], quantised_stride(x.shape[1])}, out);
    check_workspace(x_scales, "x_scales", DType::F32, {x.shape[0]}, out);
    if (reinterpret_cast<uintptr_t>(q.data) % 16 != 0) {
        throw core::Error("SpanError", "misaligned pointer", "q", "a multiple of 16 bytes");
    }
    const auto* bytes = resident.as<uint8_t>();
    args.call.values = bytes + formats::section_start(sections, 0);
    args.call.metadata = reinterpret_cast<const uint32_t*>(bytes + formats::section_start(sections, 1));
    if (sections.count > 3) args.high_codes = reinterpret_cast<const uint16_t*>(bytes + formats::section_start(sections, 2));
    args.scales = reinterpret_cast<const float*>(bytes + formats::section_start(sections, sections.count - 1));
    args.n = static_cast<int>(n);
    args.m = static_cast<int>(m);
    args.call.row_tiles = core::ceil_div(args.call.rows, int64_t{kTileRows});
    args.call.column_tiles = core::ceil_div(args.call.cols, nm.tile_columns);
    if (workspace != nullptr) core::require_disjoint(out, "out", *workspace, "workspace");
    args.call.plan = plan_of(args.call, workspace);
    args.q_stride = quantised_stride(args.call.cols);
    args.q = q.as<int8_t>();
    args.values = q.dtype;
    args.x_scales = x_scales.as<float>();
    return args;
}

}  // namespace sparsecore::cuda
