#include "formats/nm.h"

#include "bindings/bind.h"
#include "bindings/span_caster.h"

namespace sparsecore::bindings {

namespace py = pybind11;
using namespace py::literals;

void bind_nm(py::module_& m) {
    m.def("nm_kept_per_row", &formats::nm_kept_per_row, "cols"_a, "n"_a, "m"_a);
    m.def("nm_code_bytes", &formats::nm_code_bytes, "kept_per_row"_a, "m"_a, "Bytes of one row of position codes.");
    m.def("nm_pack", &formats::nm_pack, "dense"_a, "n"_a, "m"_a, "compressed"_a, "bitmask"_a, ReleaseGil());
    m.def("nm_unpack", &formats::nm_unpack, "compressed"_a, "bitmask"_a, "n"_a, "m"_a, "dense"_a, ReleaseGil());
    m.def("nm_validate", &formats::nm_validate_bitmask, "bitmask"_a, "cols"_a, "n"_a, "m"_a, ReleaseGil());
    m.def("nm_validate_codes", &formats::nm_validate_codes, "codes"_a, "cols"_a, "n"_a, "m"_a, ReleaseGil());
    m.def("nm_bitmask_to_codes", &formats::nm_bitmask_to_codes, "bitmask"_a, "cols"_a, "n"_a, "m"_a, "codes"_a,
          ReleaseGil());
    m.def("nm_codes_to_bitmask", &formats::nm_codes_to_bitmask, "codes"_a, "cols"_a, "n"_a, "m"_a, "bitmask"_a,
          ReleaseGil());
}

}  // namespace sparsecore::bindings
