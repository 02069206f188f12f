// csrc errors as the Python exceptions of the same name.
#pragma once

#include <pybind11/pybind11.h>

#include "core/error.h"

namespace sparsecore::bindings {

// Raises getattr(module, error.kind)(message, where=..., expected=..., hint=...). Needs the GIL.
inline void raise_error(const core::Error& error, const char* module) {
    namespace py = pybind11;
    try {
        const py::object type = py::module_::import(module).attr(error.kind.c_str());
        const py::object value = type(error.message, py::arg("where") = error.where,
                                      py::arg("expected") = error.expected, py::arg("hint") = error.hint);
        PyErr_SetObject(type.ptr(), value.ptr());
    } catch (py::error_already_set& failed) {
        failed.restore();  // the package is broken; its own import error says how
    }
}

// For the module being made: csrc errors become those of sparsecore.errors.
inline void translate_errors() {
    pybind11::register_local_exception_translator([](std::exception_ptr pointer) {
        try {
            if (pointer) std::rethrow_exception(pointer);
        } catch (const core::Error& error) {
            raise_error(error, "sparsecore.errors");
        }
    });
}

}  // namespace sparsecore::bindings
