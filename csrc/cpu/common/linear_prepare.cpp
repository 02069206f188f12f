#include "cpu/common/linear_prepare.h"

#include <algorithm>

#include "core/checked.h"

namespace sparsecore::cpu {

Activation parse_activation(const std::string& name) {
    if (name == "none") return Activation::None;
    if (name == "relu") return Activation::Relu;
    if (name == "gelu") return Activation::Gelu;
    if (name == "gelu_tanh") return Activation::GeluTanh;
    if (name == "silu") return Activation::Silu;
    throw core::Error("UnknownNameError", "unknown activation '" + name + "'", "activation",
                      "none, relu, gelu, gelu_tanh or silu");
}

LinearCall check_linear(const core::Span& x, const core::Span* bias, const core::Span& out, core::DType weight_dtype,
                        int64_t rows, int64_t cols, const std::string& activation, int threads,
                        core::AlignedBuffer& bias_storage) {
    const bool quantised = core::is_quantised(weight_dtype);
    if (quantised) core::require_float(x, "x");
    const core::DType dtype = quantised ? x.dtype : weight_dtype;
    core::require_shape(x, "x", {-1, cols});
    core::require_shape(out, "out", {x.shape[0], rows});
    core::require_dtype(x, "x", dtype);
    core::require_dtype(out, "out", dtype);
    core::require_disjoint(out, "out", x, "x");
    if (threads < 1) {
        throw core::Error("InvalidValueError", "threads is " + std::to_string(threads), "threads", "at least 1");
    }
    LinearCall call;
    call.dtype = dtype;
    call.tokens = x.shape[0];
    call.rows = rows;
    call.cols = cols;
    call.x = x.data;
    call.x_token_stride = x.strides[0];
    call.x_column_stride = x.strides[1];
    call.out = out.data;
    call.out_token_stride = out.strides[0];
    call.out_row_stride = out.strides[1];
    call.activation = parse_activation(activation);
    call.threads = threads;
    if (bias != nullptr) {
        core::require_shape(*bias, "bias", {rows});
        const core::DType type = quantised && bias->dtype == core::DType::F32 ? core::DType::F32 : dtype;
        core::require_dtype(*bias, "bias", type);
        core::require_disjoint(out, "out", *bias, "bias");
        auto* values = static_cast<float*>(bias_storage.reserve(core::checked_mul(rows, 4, "bias")));
        for (int64_t r = 0; r < rows; ++r) values[r] = core::load_float(bias->data, r * bias->strides[0], type);
        call.bias = values;
    }
    return call;
}

void pack_token_tile(const LinearCall& call, int64_t token, float* tile) {
    const int64_t count = std::min(kPortableTile, call.tokens - token);
    for (int64_t t = 0; t < kPortableTile; ++t) {
        for (int64_t c = 0; c < call.cols; ++c) {
            tile[c * kPortableTile + t] = t < count ? load_x(call, token + t, c) : 0.0f;
        }
    }
}

}  // namespace sparsecore::cpu
