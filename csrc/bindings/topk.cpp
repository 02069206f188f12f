#include "cpu/topk/topk.h"

#include "bindings/bind.h"
#include "bindings/span_caster.h"

namespace sparsecore::bindings {

namespace py = pybind11;
using namespace py::literals;

namespace {

void select(const core::Span& x, int64_t k, const core::Span& values, const core::Span& indices, int threads) {
    cpu::topk_select(core::as_matrix(x, "x"), k, core::as_matrix(values, "values"),
                     core::as_matrix(indices, "indices"), threads);
}

void threshold(const core::Span& x, int64_t k, const core::Span& out, int threads) {
    cpu::topk_threshold(core::as_matrix(x, "x"), k, out, threads);
}

}  // namespace

void bind_topk(py::module_& m) {
    m.def("topk_select", &select, "x"_a, "k"_a, "values"_a, "indices"_a, "threads"_a, ReleaseGil(),
          "The k largest of every row of x [rows, n], in ascending index order; NaN is largest, ties go to the lower "
          "index. More leading dimensions may be given where they have no gaps.");
    m.def("topk_threshold", &threshold, "x"_a, "k"_a, "out"_a, "threads"_a, ReleaseGil(),
          "The k-th largest value of every row of x [rows, n].");
}

}  // namespace sparsecore::bindings
