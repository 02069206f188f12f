// One function a family of bindings; module.cpp calls them all.
#pragma once

#include <pybind11/pybind11.h>

namespace sparsecore::bindings {

// For functions whose arguments are plain C++ by the time they run: other Python threads go on meanwhile.
using ReleaseGil = pybind11::call_guard<pybind11::gil_scoped_release>;

void bind_core(pybind11::module_& m);
void bind_formats(pybind11::module_& m);
void bind_nm(pybind11::module_& m);
void bind_resident(pybind11::module_& m);
void bind_topk(pybind11::module_& m);
void bind_attention(pybind11::module_& m);
void bind_rows(pybind11::module_& m);
void bind_decode(pybind11::module_& m);
void bind_cuda(pybind11::module_& m);
void bind_limits(pybind11::module_& m);

}  // namespace sparsecore::bindings
