#include "cuda/common/linear_call.h"

#include "core/error.h"

namespace sparsecore::cuda {

namespace {

using core::Span;

bool in_units(const Span& matrix) {
    const int64_t unit = 16 / core::itemsize(matrix.dtype);
    return matrix.strides[1] == 1 && matrix.strides[0] % unit == 0 && reinterpret_cast<uintptr_t>(matrix.data) % 16 == 0;
}

}  // namespace

LinearArgs check_linear_call(const Span& x, const Span& resident, int64_t resident_bytes, const Span* bias, const Span& out,
                             cpu::Activation activation) {
    core::require_shape(x, "x", {-1, -1});
    core::require_float(x, "x");
    core::require_shape(out, "out", {x.shape[0], -1});
    core::require_dtype(out, "out", x.dtype);
    core::require_disjoint(out, "out", x, "x");
    core::require_dtype(resident, "resident", core::DType::U8);
    core::require_shape(resident, "resident", {resident_bytes});
    core::require_contiguous(resident, "resident");
    core::require_disjoint(out, "out", resident, "resident");
    if (reinterpret_cast<uintptr_t>(resident.data) % 16 != 0) {
        throw core::Error("SpanError", "misaligned pointer", "resident", "a multiple of 16 bytes");
    }
    LinearArgs args{};
    if (bias != nullptr) {
        core::require_shape(*bias, "bias", {out.shape[1]});
        core::require_dtype(*bias, "bias", x.dtype);
        core::require_disjoint(out, "out", *bias, "bias");
        args.bias = bias->data;
        args.bias_stride = bias->strides[0];
    }
    args.x = x.data;
    args.out = out.data;
    args.x_token_stride = x.strides[0];
    args.x_column_stride = x.strides[1];
    args.out_token_stride = out.strides[0];
    args.out_row_stride = out.strides[1];
    args.tokens = x.shape[0];
    args.rows = out.shape[1];
    args.cols = x.shape[1];
    args.x_in_units = in_units(x);
    args.out_in_units = in_units(out);
    args.activation = activation;
    return args;
}

}  // namespace sparsecore::cuda
