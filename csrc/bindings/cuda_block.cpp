#include <pybind11/stl.h>

#include <optional>

#include "bindings/cuda_launch.h"
#include "bindings/span_caster.h"
#include "cpu/common/linear_prepare.h"
#include "cuda/block_linear/block_linear.h"

namespace sparsecore::bindings {

namespace py = pybind11;
using namespace py::literals;
using core::Span;

namespace {

void linear(const Span& x, const Span& resident, int64_t height, int64_t width, int64_t kept, const std::optional<Span>& bias,
            const Span& out, const std::string& activation, uint64_t stream) {
    const cuda::BlockArgs args = cuda::block_linear_call(x, resident, height, width, kept, bias ? &*bias : nullptr, out,
                                                         cpu::parse_activation(activation));
    cuda::block_linear_launch(args, x.dtype, stream);
}

}  // namespace

void bind_cuda_block(py::module_& m) {
    m.def("cuda_block_linear", &linear, "x"_a, "resident"_a, "height"_a, "width"_a, "kept"_a, "bias"_a.none(true), "out"_a,
          "activation"_a, "stream"_a, ReleaseGil(),
          "Queue out = activation(x W^T + bias) on a CUDA stream, W of `kept` blocks of height x width; all spans hold device pointers.");
}

}  // namespace sparsecore::bindings
