#include "limits/limits.h"

#include <pybind11/stl.h>

#include "bindings/bind.h"

namespace sparsecore::bindings {

namespace py = pybind11;
using namespace py::literals;

void bind_limits(py::module_& m) {
    m.def("limits_read_rate", &limits::read_rate, "size"_a, "threads"_a, "seconds"_a, ReleaseGil(),
          "Bytes a second at which the threads together read a buffer, the fastest pass.");
    m.def("limits_peak_rate", &limits::peak_rate, "unit"_a, "threads"_a, "seconds"_a, ReleaseGil(),
          "Operations a second of 'fp32', 'bf16', 'int8', 'amx_bf16' or 'amx_int8'; 0 where the instruction set in use "
          "lacks the unit.");
}

}  // namespace sparsecore::bindings
