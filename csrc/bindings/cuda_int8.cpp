#include <pybind11/stl.h>

#include <optional>

#include "bindings/cuda_launch.h"
#include "bindings/span_caster.h"
#include "cpu/common/linear_prepare.h"
#include "cuda/nm_linear/int8/int8_linear.h"

namespace sparsecore::bindings {

namespace py = pybind11;
using namespace py::literals;
using core::Span;

namespace {

void linear(const Span& x, const Span& resident, int64_t n, int64_t m, const std::optional<Span>& bias, const Span& out,
            const std::string& activation, uint64_t stream, const Span& q, const Span& x_scales, const std::optional<Span>& workspace) {
    const cuda::Int8Args args = cuda::int8_linear_call(x, resident, n, m, bias ? &*bias : nullptr, out,
                                                       cpu::parse_activation(activation), q, x_scales, workspace ? &*workspace : nullptr);
    cuda::int8_linear_launch(args, x.dtype, stream);
}

}  // namespace

void bind_cuda_int8(py::module_& m) {
    m.def("cuda_int8_linear", &linear, "x"_a, "resident"_a, "n"_a, "m"_a, "bias"_a.none(true), "out"_a, "activation"_a, "stream"_a, "q"_a,
          "x_scales"_a, "workspace"_a.none(true) = py::none(), ReleaseGil(),
          "Queue the quantisation of x [tokens, cols] into q, int8 or fp8 [tokens, cols rounded up to 16], and x_scales, fp32 [tokens], and out = "
          "activation(x W^T + bias) with a 2:4, 1:4, 1:8 or 2:8 weight of q's type; all spans hold device pointers. workspace: as in "
          "cuda_nm_linear.");
}

}  // namespace sparsecore::bindings
