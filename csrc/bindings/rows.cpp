#include "cpu/rows/rows.h"

#include "bindings/bind.h"
#include "bindings/span_caster.h"

namespace sparsecore::bindings {

namespace py = pybind11;
using namespace py::literals;

void bind_rows(py::module_& m) {
    m.def("gather_rows", &cpu::gather_rows, "x"_a, "index"_a, "out"_a, "threads"_a, ReleaseGil(),
          "Rows of x [B, n, bytes] by index [B, m] into out [B, m, bytes], as bytes.");
    m.def("scatter_rows", &cpu::scatter_rows, "out"_a, "positions"_a, "x"_a, "threads"_a, ReleaseGil(),
          "Rows of x [B, m, bytes] to their positions [B, m] in out [B, L, bytes], as bytes; others are skipped.");
    m.def("ragged_topk", &cpu::ragged_topk, "scores"_a, "counts"_a, "keep"_a, "index"_a, "threads"_a, ReleaseGil(),
          "Slots of the keep[b] highest of the first counts[b] scores of each row, ascending, then zeros.");
}

}  // namespace sparsecore::bindings
