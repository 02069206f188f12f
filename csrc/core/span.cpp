#include "core/span.h"

#include "core/checked.h"
#include "core/error.h"

namespace sparsecore::core {

namespace {

// Elements from data up to and including the last one that the shape reaches; 0 for an empty span.
int64_t extent(const Span& span) {
    int64_t last = 0;
    for (int d = 0; d < span.ndim; ++d) {
        if (span.shape[d] == 0) return 0;
        last = checked_add(last, checked_mul(span.shape[d] - 1, span.strides[d], "span extent"), "span extent");
    }
    return checked_add(last, 1, "span extent");
}

std::string list_text(const int64_t* values, int count) {
    std::string text = "[";
    for (int i = 0; i < count; ++i) text += (i ? ", " : "") + (values[i] == -1 ? "any" : std::to_string(values[i]));
    return text + "]";
}

}  // namespace

Span make_span(void* data, DType dtype, std::initializer_list<int64_t> shape) {
    Span span;
    span.data = data;
    span.dtype = dtype;
    for (int64_t size : shape) span.shape[span.ndim++] = size;
    int64_t stride = 1;
    for (int d = span.ndim - 1; d >= 0; --d) {
        span.strides[d] = stride;
        stride = checked_mul(stride, span.shape[d], "span");
    }
    span.bytes = checked_mul(stride, itemsize(dtype), "span");
    return span;
}

int64_t element_count(const Span& span) {
    int64_t count = 1;
    for (int d = 0; d < span.ndim; ++d) count = checked_mul(count, span.shape[d], "span elements");
    return count;
}

bool is_contiguous(const Span& span) {
    for (int d = 0; d < span.ndim; ++d) {
        if (span.shape[d] == 0) return true;  // whatever its strides, as in torch
    }
    int64_t stride = 1;
    for (int d = span.ndim - 1; d >= 0; --d) {
        if (span.shape[d] != 1 && span.strides[d] != stride) return false;
        stride = checked_mul(stride, span.shape[d], "span elements");
    }
    return true;
}

Span as_matrix(const Span& span, const char* name) {
    if (span.ndim == 2) return span;
    check_span(span, name);
    if (span.ndim == 0) throw Error("ShapeError", "wrong shape []", name, "at least one dimension");
    require_contiguous(span, name);
    Span matrix = span;
    matrix.ndim = 2;
    matrix.shape[0] = 1;
    for (int d = 0; d + 1 < span.ndim; ++d) matrix.shape[0] = checked_mul(matrix.shape[0], span.shape[d], "span rows");
    matrix.shape[1] = span.shape[span.ndim - 1];
    matrix.strides[0] = matrix.shape[1];
    matrix.strides[1] = 1;
    return matrix;
}

std::string shape_text(const Span& span) { return list_text(span.shape, span.ndim); }

void check_span(const Span& span, const char* name) {
    if (span.ndim < 0 || span.ndim > kMaxDims) {
        throw Error("SpanError", "unsupported number of dimensions: " + std::to_string(span.ndim), name,
                    "at most " + std::to_string(kMaxDims));
    }
    for (int d = 0; d < span.ndim; ++d) {
        if (span.shape[d] < 0 || span.strides[d] < 0) {
            throw Error("SpanError", "negative size or stride", name, "non-negative sizes and strides",
                        "shape " + list_text(span.shape, span.ndim));
        }
    }
    const int64_t need = checked_mul(extent(span), itemsize(span.dtype), "span bytes");
    if (need == 0) return;
    if (span.bytes < need) {
        throw Error("SpanError", "span is shorter than its shape", name,
                    "at least " + std::to_string(need) + " bytes for shape " + shape_text(span) + " of " +
                        dtype_name(span.dtype) + ", got " + std::to_string(span.bytes));
    }
    if (span.data == nullptr) throw Error("SpanError", "null pointer", name);
    if (reinterpret_cast<uintptr_t>(span.data) % static_cast<uintptr_t>(itemsize(span.dtype)) != 0) {
        throw Error("SpanError", "misaligned pointer", name,
                    "a multiple of " + std::to_string(itemsize(span.dtype)) + " bytes");
    }
}

void require_shape(const Span& span, const char* name, std::initializer_list<int64_t> shape) {
    check_span(span, name);
    bool same = span.ndim == static_cast<int>(shape.size());
    int d = 0;
    for (int64_t size : shape) {
        if (same && size >= 0 && span.shape[d] != size) same = false;
        ++d;
    }
    if (!same) {
        throw Error("ShapeError", "wrong shape " + shape_text(span), name,
                    list_text(shape.begin(), static_cast<int>(shape.size())));
    }
}

void require_dtype(const Span& span, const char* name, DType dtype) {
    if (span.dtype != dtype) {
        throw Error("DtypeError", std::string("wrong element type ") + dtype_name(span.dtype), name, dtype_name(dtype));
    }
}

void require_float(const Span& span, const char* name) {
    if (!is_float(span.dtype)) {
        throw Error("DtypeError", std::string("wrong element type ") + dtype_name(span.dtype), name,
                    "f32, f16 or bf16");
    }
}

void require_contiguous(const Span& span, const char* name) {
    if (!is_contiguous(span)) {
        throw Error("ShapeError", "not contiguous", name, "row-major without gaps", "call .contiguous() first");
    }
}

void require_disjoint(const Span& out, const char* out_name, const Span& in, const char* in_name) {
    const auto begin_out = reinterpret_cast<uintptr_t>(out.data), begin_in = reinterpret_cast<uintptr_t>(in.data);
    const auto end_out = begin_out + static_cast<uintptr_t>(extent(out) * itemsize(out.dtype));
    const auto end_in = begin_in + static_cast<uintptr_t>(extent(in) * itemsize(in.dtype));
    if (begin_out < end_in && begin_in < end_out && begin_out < end_out && begin_in < end_in) {
        throw Error("AliasingError", std::string(out_name) + " shares memory with " + in_name, out_name,
                    "an output of its own");
    }
}

}  // namespace sparsecore::core
