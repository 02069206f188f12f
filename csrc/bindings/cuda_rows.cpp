#include "bindings/cuda_launch.h"
#include "bindings/span_caster.h"
#include "cuda/rows/rows.h"

namespace sparsecore::bindings {

namespace py = pybind11;
using namespace py::literals;
using core::Span;

namespace {

void gather(const Span& x, const Span& index, const Span& out, uint64_t stream) {
    cuda::gather_rows_launch(cuda::gather_rows_call(x, index, out), stream);
}

void scatter(const Span& out, const Span& positions, const Span& x, const Span& sources, uint64_t stream) {
    cuda::scatter_rows_launch(cuda::scatter_rows_call(out, positions, x, sources), stream);
}

}  // namespace

void bind_cuda_rows(py::module_& m) {
    m.def("cuda_gather_rows", &gather, "x"_a, "index"_a, "out"_a, "stream"_a, ReleaseGil(),
          "Queue the copy of rows of x [B, n, bytes] by index [B, m] into out [B, m, bytes] on a CUDA stream.");
    m.def("cuda_scatter_rows", &scatter, "out"_a, "positions"_a, "x"_a, "sources"_a, "stream"_a, ReleaseGil(),
          "Queue the copy of rows of x [B, m, bytes] to their positions in out [B, L, bytes]; sources i32 [B, L] is scratch.");
}

}  // namespace sparsecore::bindings
