#include <pybind11/stl.h>

#include <optional>

#include "bindings/cuda_launch.h"
#include "bindings/span_caster.h"
#include "cuda/expand/expand.h"

namespace sparsecore::bindings {

namespace py = pybind11;
using namespace py::literals;
using core::Span;

namespace {

void expand(const Span& resident, const std::string& kind, const std::string& dtype, int64_t rows, int64_t cols, int64_t p0, int64_t p1,
            int64_t kept, uint32_t layout, const Span& out, bool marks_pruned, uint64_t stream) {
    const formats::Geometry geometry{formats::parse_kind(kind), parse_dtype(dtype), rows, cols, p0, p1, kept, false};
    cuda::expand_launch(cuda::expand_call(geometry, layout, resident, out, marks_pruned), geometry.dtype, stream);
}

void repair(const Span& a, const Span& weight, const std::optional<Span>& bias, const Span& out, uint64_t stream) {
    cuda::repair_launch(cuda::repair_call(a, weight, bias ? &*bias : nullptr, out), out.dtype, stream);
}

}  // namespace

void bind_cuda_expand(py::module_& m) {
    m.def("cuda_expand", &expand, "resident"_a, "kind"_a, "dtype"_a, "rows"_a, "cols"_a, "p0"_a, "p1"_a, "kept"_a, "layout"_a, "out"_a,
          "marks_pruned"_a, "stream"_a, ReleaseGil(), "Queue the writing of a resident weight as a dense one on a CUDA stream.");
    m.def("cuda_repair", &repair, "a"_a, "weight"_a, "bias"_a.none(true), "out"_a, "stream"_a, ReleaseGil(),
          "Queue the repair of out = a weight^T + bias, whose weight has its pruned positions marked, on a CUDA stream.");
}

}  // namespace sparsecore::bindings
