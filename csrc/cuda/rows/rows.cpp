#include "cuda/rows/rows.h"

#include <string>

#include "core/error.h"

namespace sparsecore::cuda {

namespace {

using core::Error;
using core::Span;

void check_rows(const Span& rows, const char* name, int64_t batch, int64_t number, int64_t bytes) {
    core::require_shape(rows, name, {batch, number, bytes});
    core::require_dtype(rows, name, core::DType::U8);
    if (rows.shape[2] > 1 && rows.strides[2] != 1) {
        throw Error("ShapeError", "bytes of a row are " + std::to_string(rows.strides[2]) + " apart", name, "1");
    }
}

// The widest unit that all rows of both consist of.
int common_unit(const RowsArgs& a) {
    const auto addresses = reinterpret_cast<uintptr_t>(a.packed) | reinterpret_cast<uintptr_t>(a.whole);
    const int64_t all = static_cast<int64_t>(addresses % 16) | a.packed_batch_stride | a.packed_row_stride |
                        a.whole_batch_stride | a.whole_row_stride | a.bytes | 16;
    return static_cast<int>(all & -all);
}

// The spans have been checked.
RowsArgs args_of(const Span& packed, const Span& whole, const Span& places) {
    RowsArgs args{};
    args.packed = packed.as<unsigned char>();
    args.whole = whole.as<unsigned char>();
    args.places = places.as<const int64_t>();
    args.packed_batch_stride = packed.strides[0];
    args.packed_row_stride = packed.strides[1];
    args.whole_batch_stride = whole.strides[0];
    args.whole_row_stride = whole.strides[1];
    args.place_batch_stride = places.strides[0];
    args.place_stride = places.strides[1];
    args.batch = whole.shape[0];
    args.m = places.shape[1];
    args.rows = whole.shape[1];
    args.bytes = whole.shape[2];
    args.unit = common_unit(args);
    return args;
}

}  // namespace

RowsArgs gather_rows_call(const Span& x, const Span& index, const Span& out) {
    check_rows(x, "x", -1, -1, -1);
    core::require_shape(index, "index", {x.shape[0], -1});
    core::require_dtype(index, "index", core::DType::I64);
    check_rows(out, "out", x.shape[0], index.shape[1], x.shape[2]);
    core::require_disjoint(out, "out", x, "x");
    core::require_disjoint(out, "out", index, "index");
    return args_of(out, x, index);
}

RowsArgs scatter_rows_call(const Span& out, const Span& positions, const Span& x, const Span& sources) {
    check_rows(out, "out", -1, -1, -1);
    core::require_shape(positions, "positions", {out.shape[0], -1});
    core::require_dtype(positions, "positions", core::DType::I64);
    if (positions.shape[1] > INT32_MAX) {
        throw Error("ShapeError", std::to_string(positions.shape[1]) + " rows of a sequence", "positions", "fewer than 2^31");
    }
    check_rows(x, "x", out.shape[0], positions.shape[1], out.shape[2]);
    core::require_shape(sources, "sources", {out.shape[0], out.shape[1]});
    core::require_dtype(sources, "sources", core::DType::I32);
    core::require_contiguous(sources, "sources");
    core::require_disjoint(out, "out", x, "x");
    core::require_disjoint(out, "out", positions, "positions");
    for (const auto& [span, name] : {std::pair(&out, "out"), std::pair(&x, "x"), std::pair(&positions, "positions")}) {
        core::require_disjoint(sources, "sources", *span, name);
    }
    const bool expanded = (out.shape[0] > 1 && out.strides[0] == 0) || (out.shape[1] > 1 && out.strides[1] == 0);
    if (expanded && core::element_count(out) > 0) {
        throw Error("AliasingError", "rows of out share memory", "out", "a tensor that is not expanded");
    }
    RowsArgs args = args_of(x, out, positions);
    args.sources = sources.as<uint32_t>();
    return args;
}

}  // namespace sparsecore::cuda
