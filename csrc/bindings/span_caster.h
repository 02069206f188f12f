// Spans come from Python as (pointer, bytes, shape, strides, dtype name); strides count elements. Read with the plain
// C API: a call of a kernel brings four of them, and they are most of its fixed cost.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>

#include "core/error.h"
#include "core/span.h"

namespace sparsecore::bindings {

// `is_name(text)` compares the given name with one of ours, `given()` is the name for the message.
template <class IsName, class Given>
core::DType find_dtype(IsName&& is_name, Given&& given) {
    using core::DType;
    for (DType dtype : {DType::F32, DType::F16, DType::BF16, DType::I8, DType::F8, DType::U8, DType::I32, DType::I64}) {
        if (is_name(core::dtype_name(dtype))) return dtype;
    }
    throw core::Error("DtypeError", "unknown element type '" + given() + "'", "span",
                      "f32, f16, bf16, i8, f8, u8, i32, i64");
}

inline core::DType parse_dtype(const std::string& name) {
    return find_dtype([&](const char* known) { return name == known; }, [&] { return name; });
}

inline core::DType parse_dtype(PyObject* name) {
    return find_dtype(
        [&](const char* known) {
            return PyUnicode_Check(name) && PyUnicode_CompareWithASCIIString(name, known) == 0;
        },
        [&] { return std::string(pybind11::str(name)); });
}

inline int64_t parse_int(PyObject* value) {
    const long long number = PyLong_AsLongLong(value);
    if (number == -1 && PyErr_Occurred() != nullptr) throw pybind11::error_already_set();
    return number;
}

// False if the object is no span at all; an Error if it is one with wrong contents.
inline bool parse_span(PyObject* source, core::Span& span) {
    if (!PyTuple_Check(source) || PyTuple_GET_SIZE(source) != 5) return false;
    PyObject *shape = PyTuple_GET_ITEM(source, 2), *strides = PyTuple_GET_ITEM(source, 3);
    if (!PyTuple_Check(shape) || !PyTuple_Check(strides)) return false;
    const Py_ssize_t ndim = PyTuple_GET_SIZE(shape);
    if (ndim != PyTuple_GET_SIZE(strides) || ndim > core::kMaxDims) {
        throw core::Error("SpanError", "shape and strides differ in length or are too long", "span",
                          "at most 8 dimensions");
    }
    span.data = PyLong_AsVoidPtr(PyTuple_GET_ITEM(source, 0));
    if (span.data == nullptr && PyErr_Occurred() != nullptr) throw pybind11::error_already_set();
    span.bytes = parse_int(PyTuple_GET_ITEM(source, 1));
    span.dtype = parse_dtype(PyTuple_GET_ITEM(source, 4));
    span.ndim = static_cast<int>(ndim);
    for (Py_ssize_t d = 0; d < ndim; ++d) {
        span.shape[d] = parse_int(PyTuple_GET_ITEM(shape, d));
        span.strides[d] = parse_int(PyTuple_GET_ITEM(strides, d));
    }
    return true;
}

}  // namespace sparsecore::bindings

namespace pybind11::detail {

template <>
struct type_caster<sparsecore::core::Span> {
    PYBIND11_TYPE_CASTER(sparsecore::core::Span,
                         const_name("tuple[int, int, tuple[int, ...], tuple[int, ...], str]"));

    bool load(handle source, bool) { return sparsecore::bindings::parse_span(source.ptr(), value); }
};

}  // namespace pybind11::detail
