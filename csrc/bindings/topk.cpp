#include "cpu/topk/topk.h"

#include "bindings/bind.h"
#include "bindings/span_caster.h"

namespace sparsecore::bindings {

namespace py = pybind11;
using namespace py::literals;

void bind_topk(py::module_& m) {
    m.def("topk_select", &cpu::topk_select, "x"_a, "k"_a, "values"_a, "indices"_a, "threads"_a, ReleaseGil(),
          "The k largest of every row of x [rows, n], in ascending index order; NaN is largest, ties go to the lower "
          "index.");
    m.def("topk_threshold", &cpu::topk_threshold, "x"_a, "k"_a, "out"_a, "threads"_a, ReleaseGil(),
          "The k-th largest value of every row of x [rows, n].");
}

}  // namespace sparsecore::bindings
