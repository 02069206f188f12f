#pragma once

#include <pybind11/pybind11.h>

namespace sparsecore::bindings {

void bind_bursts(pybind11::module_& m);

}  // namespace sparsecore::bindings
