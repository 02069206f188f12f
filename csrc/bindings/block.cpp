#include "formats/block.h"

#include "bindings/bind.h"
#include "bindings/span_caster.h"

namespace sparsecore::bindings {

namespace py = pybind11;
using namespace py::literals;

void bind_block(py::module_& m) {
    m.def("block_count", &formats::block_count, "dense"_a, "r"_a, "c"_a, ReleaseGil(),
          "Blocks of dense [rows, cols] that hold a non-zero value.");
    m.def("block_pack", &formats::block_pack, "dense"_a, "r"_a, "c"_a, "blocks"_a, "block_cols"_a,
          "block_row_offsets"_a, ReleaseGil());
    m.def("block_unpack", &formats::block_unpack, "blocks"_a, "block_cols"_a, "block_row_offsets"_a, "dense"_a,
          ReleaseGil());
    m.def("block_validate", &formats::block_validate, "blocks"_a, "block_cols"_a, "block_row_offsets"_a, "rows"_a,
          "cols"_a, ReleaseGil());
}

}  // namespace sparsecore::bindings
