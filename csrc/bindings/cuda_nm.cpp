#include <pybind11/stl.h>

#include <optional>

#include "bindings/cuda_launch.h"
#include "bindings/span_caster.h"
#include "cpu/common/linear_prepare.h"
#include "cuda/nm_linear/nm_linear.h"

namespace sparsecore::bindings {

namespace py = pybind11;
using namespace py::literals;
using core::Span;

namespace {

void linear(const Span& x, const Span& resident, int64_t n, int64_t m, const std::optional<Span>& bias, const Span& out,
            const std::string& activation, uint64_t stream, const std::optional<Span>& workspace,
            uint32_t layout) {
    const cuda::NmLinearCall call =
        cuda::nm_linear_call(x, resident, n, m, bias ? &*bias : nullptr, out, cpu::parse_activation(activation),
                             workspace ? &*workspace : nullptr, layout);
    cuda::nm_linear_launch(call, x.dtype, stream);
}

int splits(int64_t tokens, int64_t rows, int64_t cols, int64_t n, int64_t m, const std::string& dtype, uint32_t layout) {
    return cuda::nm_linear_splits(parse_dtype(dtype), tokens, rows, cols, n, m, layout);
}

int64_t transposed_tokens(int64_t tokens, int64_t rows, int64_t cols, uint32_t layout) {
    return cuda::nm_transposed_tokens(tokens, rows, cols, layout);
}

}  // namespace

void bind_cuda_nm(py::module_& m) {
    m.def("cuda_nm_linear", &linear, "x"_a, "resident"_a, "n"_a, "m"_a, "bias"_a.none(true), "out"_a, "activation"_a,
          "stream"_a, "workspace"_a.none(true) = py::none(),
          "layout"_a = cuda::kCudaLayout, ReleaseGil(),
          "Queue out = activation(x W^T + bias) on a CUDA stream; all spans hold device pointers.");
    m.def("cuda_nm_splits", &splits, "tokens"_a, "rows"_a, "cols"_a, "n"_a, "m"_a, "dtype"_a,
          "layout"_a = cuda::kCudaLayout,
          "First size of the workspace, fp32 [splits, tokens, rows], that makes a call fast; 1: it needs none.");
    m.def("cuda_nm_transposed_tokens", &transposed_tokens, "tokens"_a, "rows"_a, "cols"_a, "layout"_a,
          "Second size of a workspace [cols, tokens] of x's type that makes a call on a V:N:M weight fast; 0: it needs none.");
}

}  // namespace sparsecore::bindings
