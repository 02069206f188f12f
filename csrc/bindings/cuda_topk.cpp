#include "bindings/cuda_launch.h"
#include "bindings/span_caster.h"
#include "cuda/topk/topk.h"

namespace sparsecore::bindings {

namespace py = pybind11;
using namespace py::literals;
using core::Span;

namespace {

int64_t workspace_bytes(int64_t rows, int64_t n, int64_t k, const std::string& dtype) {
    return cuda::topk_workspace(parse_dtype(dtype), rows, n, k);
}

void select(const Span& x, int64_t k, const Span& values, const Span& indices, const Span& workspace, uint64_t stream) {
    cuda::topk_launch(cuda::topk_select_call(x, k, values, indices), x.dtype, workspace, stream);
}

void threshold(const Span& x, int64_t k, const Span& out, const Span& workspace, uint64_t stream) {
    cuda::topk_launch(cuda::topk_threshold_call(x, k, out), x.dtype, workspace, stream);
}

void ragged(const Span& scores, const Span& counts, const Span& keep, const Span& index, const Span& workspace,
            uint64_t stream) {
    cuda::topk_launch(cuda::ragged_topk_call(scores, counts, keep, index), scores.dtype, workspace, stream);
}

}  // namespace

void bind_cuda_topk(py::module_& m) {
    m.def("cuda_topk_workspace", &workspace_bytes, "rows"_a, "n"_a, "k"_a, "dtype"_a,
          "Bytes of device memory that the other functions take as a workspace on the current device.");
    m.def("cuda_topk_select", &select, "x"_a, "k"_a, "values"_a, "indices"_a, "workspace"_a, "stream"_a, ReleaseGil(),
          "Queue the search for the k largest of every row of x [rows, n], in ascending index order, on a CUDA stream.");
    m.def("cuda_topk_threshold", &threshold, "x"_a, "k"_a, "out"_a, "workspace"_a, "stream"_a, ReleaseGil(),
          "Queue the search for the k-th largest value of every row of x [rows, n].");
    m.def("cuda_ragged_topk", &ragged, "scores"_a, "counts"_a, "keep"_a, "index"_a, "workspace"_a, "stream"_a, ReleaseGil(),
          "Queue the search for the keep[b] highest of the first counts[b] scores of each row: slots, ascending, then zeros.");
}

}  // namespace sparsecore::bindings
