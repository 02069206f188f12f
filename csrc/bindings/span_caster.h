// Spans come from Python as (pointer, bytes, shape, strides, dtype name); strides count elements.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>

#include "core/error.h"
#include "core/span.h"

namespace sparsecore::bindings {

inline core::DType parse_dtype(const std::string& name) {
    using core::DType;
    for (DType dtype : {DType::F32, DType::F16, DType::BF16, DType::I8, DType::U8, DType::I32, DType::I64}) {
        if (name == core::dtype_name(dtype)) return dtype;
    }
    throw core::Error("DtypeError", "unknown element type '" + name + "'", "span", "f32, f16, bf16, i8, u8, i32, i64");
}

}  // namespace sparsecore::bindings

namespace pybind11::detail {

template <>
struct type_caster<sparsecore::core::Span> {
    PYBIND11_TYPE_CASTER(sparsecore::core::Span,
                         const_name("tuple[int, int, tuple[int, ...], tuple[int, ...], str]"));

    bool load(handle source, bool) {
        if (!isinstance<tuple>(source)) return false;
        const auto fields = reinterpret_borrow<tuple>(source);
        if (fields.size() != 5) return false;
        const auto shape = fields[2].cast<tuple>(), strides = fields[3].cast<tuple>();
        if (shape.size() != strides.size() || shape.size() > sparsecore::core::kMaxDims) {
            throw sparsecore::core::Error("SpanError", "shape and strides differ in length or are too long", "span",
                                          "at most 8 dimensions");
        }
        value.data = reinterpret_cast<void*>(fields[0].cast<uintptr_t>());
        value.bytes = fields[1].cast<int64_t>();
        value.dtype = sparsecore::bindings::parse_dtype(fields[4].cast<std::string>());
        value.ndim = static_cast<int>(shape.size());
        for (size_t d = 0; d < shape.size(); ++d) {
            value.shape[d] = shape[d].cast<int64_t>();
            value.strides[d] = strides[d].cast<int64_t>();
        }
        return true;
    }
};

}  // namespace pybind11::detail
