#include "bindings/bind.h"
#include "bindings/span_caster.h"
#include "formats/bitmask.h"
#include "formats/block.h"

namespace sparsecore::bindings {

namespace py = pybind11;
using namespace py::literals;

void bind_formats(py::module_& m) {
    m.def("bitmask_count", &formats::bitmask_count, "dense"_a, ReleaseGil(), "Non-zero values of a matrix.");
    m.def("bitmask_pack", &formats::bitmask_pack, "dense"_a, "compressed"_a, "bitmask"_a, "row_offsets"_a,
          ReleaseGil());
    m.def("bitmask_unpack", &formats::bitmask_unpack, "compressed"_a, "bitmask"_a, "row_offsets"_a, "dense"_a,
          ReleaseGil());
    m.def("bitmask_validate", &formats::bitmask_validate, "compressed"_a, "bitmask"_a, "row_offsets"_a, "cols"_a,
          ReleaseGil());
    m.def("block_count", &formats::block_count, "dense"_a, "r"_a, "c"_a, ReleaseGil(), "Blocks with a non-zero.");
    m.def("block_pack", &formats::block_pack, "dense"_a, "r"_a, "c"_a, "blocks"_a, "block_cols"_a,
          "block_row_offsets"_a, ReleaseGil());
    m.def("block_unpack", &formats::block_unpack, "blocks"_a, "block_cols"_a, "block_row_offsets"_a, "dense"_a,
          ReleaseGil());
    m.def("block_validate", &formats::block_validate, "blocks"_a, "block_cols"_a, "block_row_offsets"_a, "rows"_a,
          "cols"_a, ReleaseGil());
}

}  // namespace sparsecore::bindings
