#include "formats/bitmask.h"

#include "bindings/bind.h"
#include "bindings/span_caster.h"

namespace sparsecore::bindings {

namespace py = pybind11;
using namespace py::literals;

void bind_bitmask(py::module_& m) {
    m.def("bitmask_count", &formats::bitmask_count, "dense"_a, ReleaseGil(), "Non-zero values of dense [rows, cols].");
    m.def("bitmask_pack", &formats::bitmask_pack, "dense"_a, "compressed"_a, "bitmask"_a, "row_offsets"_a, ReleaseGil());
    m.def("bitmask_unpack", &formats::bitmask_unpack, "compressed"_a, "bitmask"_a, "row_offsets"_a, "dense"_a,
          ReleaseGil());
    m.def("bitmask_validate", &formats::bitmask_validate, "compressed"_a, "bitmask"_a, "row_offsets"_a, "cols"_a,
          ReleaseGil());
}

}  // namespace sparsecore::bindings
