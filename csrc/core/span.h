// A tensor that belongs to someone else: pointer, byte length, shape, strides (in elements), element type.
// Nothing is read through a span before check_span has shown that its shape fits its bytes.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "core/dtype.h"

namespace sparsecore::core {

constexpr int kMaxDims = 8;

struct Span {
    void* data = nullptr;
    int64_t bytes = 0;  // readable bytes from data on
    DType dtype = DType::U8;
    int ndim = 0;
    int64_t shape[kMaxDims] = {};
    int64_t strides[kMaxDims] = {};

    template <class T>
    T* as() const {
        return static_cast<T*>(data);
    }
};

// A contiguous span over `count` elements, for callers in C++.
Span make_span(void* data, DType dtype, std::initializer_list<int64_t> shape);

int64_t element_count(const Span& span);
bool is_contiguous(const Span& span);

// [..., n] as [product, n]: a matrix as it is, anything else without gaps, else ShapeError. Checks the span first.
Span as_matrix(const Span& span, const char* name);

std::string shape_text(const Span& span);

// Negative sizes or strides, misalignment, a null pointer and "shorter than its shape" raise SpanError.
void check_span(const Span& span, const char* name);

// check_span plus the exact shape (-1: any size), else ShapeError.
void require_shape(const Span& span, const char* name, std::initializer_list<int64_t> shape);

// Else DtypeError.
void require_dtype(const Span& span, const char* name, DType dtype);
void require_float(const Span& span, const char* name);

// Row-major without gaps, else ShapeError.
void require_contiguous(const Span& span, const char* name);

// The bytes that the two spans can touch intersect: AliasingError. Call it after check_span.
void require_disjoint(const Span& out, const char* out_name, const Span& in, const char* in_name);

}  // namespace sparsecore::core
