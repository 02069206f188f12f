#include <pybind11/stl.h>

#include <optional>

#include "bindings/cuda_launch.h"
#include "bindings/span_caster.h"
#include "cpu/common/linear_prepare.h"
#include "cuda/bitmask_linear/bitmask_linear.h"

namespace sparsecore::bindings {

namespace py = pybind11;
using namespace py::literals;
using core::Span;

namespace {

void linear(const Span& x, const Span& resident, int64_t kept, const std::optional<Span>& bias, const Span& out,
            const std::string& activation, uint64_t stream) {
    const cuda::BitmaskArgs args = cuda::bitmask_linear_call(x, resident, kept, bias ? &*bias : nullptr, out,
                                                             cpu::parse_activation(activation));
    cuda::bitmask_linear_launch(args, x.dtype, stream);
}

}  // namespace

void bind_cuda_bitmask(py::module_& m) {
    m.def("cuda_bitmask_linear", &linear, "x"_a, "resident"_a, "kept"_a, "bias"_a.none(true), "out"_a, "activation"_a, "stream"_a,
          ReleaseGil(), "Queue out = activation(x W^T + bias) on a CUDA stream, W of `kept` values; all spans hold device pointers.");
}

}  // namespace sparsecore::bindings
