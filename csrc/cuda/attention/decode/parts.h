// From spans and checked problems to the tensors that kernels take.
#pragma once

#include "core/checked.h"
#include "core/span.h"
#include "cuda/attention/decode/args.h"
#include "formats/bitplane.h"

namespace sparsecore::cuda::decode {

// `unit`: of vectors that are read from a row, bytes.
inline Part make_part(const void* data, int64_t owner_stride, int64_t head_stride, int64_t row_stride, int64_t bytes, int64_t unit) {
    const bool aligned = reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(unit) == 0 && owner_stride % unit == 0 &&
                         head_stride % unit == 0 && row_stride % unit == 0;
    auto* first = static_cast<uint8_t*>(const_cast<void*>(data));
    return {first, owner_stride, head_stride, row_stride, static_cast<int>(bytes), aligned};
}

inline Part make_part(const core::Span& span, int64_t unit) {
    const int64_t item = core::itemsize(span.dtype);
    return make_part(span.data, core::checked_mul(span.strides[0], item, "store"), core::checked_mul(span.strides[1], item, "store"),
                     core::checked_mul(span.strides[2], item, "store"), (span.ndim == 4 ? span.shape[3] : 1) * item, unit);
}

inline KeyPlanes describe_planes(const formats::KeyPlanes& format) {
    KeyPlanes planes;
    planes.planes = format.count;
    planes.first_offset = format.plane[0].offset;
    planes.rest_bits = format.count == 3 ? format.plane[1].bits : 0;
    return planes;
}

inline int bits_of_page(int64_t page_slots) {
    int bits = 0;
    while ((int64_t{1} << bits) < page_slots) ++bits;
    return bits;
}

}  // namespace sparsecore::cuda::decode
