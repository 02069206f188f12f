#include "cuda/attention/decode/store.h"

#include <algorithm>
#include <string>

#include "core/error.h"
#include "cuda/attention/decode/parts.h"

namespace sparsecore::cuda::decode {

namespace {

using core::Span;

NewRows new_rows(const Span& from, const Span& stored, int bits, const Span* scale) {
    NewRows rows;
    rows.data = from.data;
    rows.batch_stride = from.strides[0], rows.head_stride = from.strides[1];
    rows.token_stride = from.strides[2], rows.last_stride = from.strides[3];
    rows.width = static_cast<int>(std::min<int64_t>(from.shape[3], INT32_MAX));
    rows.type = from.dtype;
    rows.bits = bits;
    rows.stored_type = stored.dtype;
    rows.dense = make_part(stored, 1);
    if (scale != nullptr) rows.scale = make_part(*scale, 4);
    return rows;
}

Paging paging_of(const Span* pages, const Span& stored) {
    Paging paging;
    if (pages == nullptr) return paging;
    const int64_t slots = stored.shape[2];
    if (stored.shape[0] == 0 || slots < 16 || slots > 256 || (slots & (slots - 1)) != 0) {
        throw core::Error("ShapeError", "keys are " + core::shape_text(stored), "keys",
                          "at least one page of 16, 32, 64, 128 or 256 slots");
    }
    return {pages->as<const int32_t>(), pages->strides[0], pages->strides[1], stored.shape[0], bits_of_page(slots)};
}

// The widest unit by which all rows can be moved.
int unit_of(const Span& span) {
    const int64_t item = core::itemsize(span.dtype), bytes = (span.ndim == 4 ? span.shape[3] : 1) * item;
    for (const int unit : {16, 4}) {
        if (bytes % unit == 0 && make_part(span, unit).aligned) return unit;
    }
    return 1;
}

}  // namespace

AppendArgs append_args(const std::vector<Span>& keys, const std::vector<Span>& values, const Span& new_keys,
                       const Span& new_values, const Span& positions, const Span* pages, int msb_bits, int value_bits) {
    formats::check_kv_append(keys, values, new_keys, new_values, positions, pages, msb_bits, value_bits);
    AppendArgs a{};
    a.batch = new_keys.shape[0], a.kv_heads = new_keys.shape[1], a.tokens = new_keys.shape[2];
    a.positions = positions.as<const int64_t>(), a.position_stride = positions.strides[0];
    a.keys = new_rows(new_keys, keys[0], msb_bits == 0 ? 0 : msb_bits + formats::kLowBits, msb_bits == 0 ? nullptr : &keys.back());
    a.values = new_rows(new_values, values[0], value_bits, value_bits == 0 ? nullptr : &values[1]);
    a.paging = paging_of(pages, keys[0]);
    a.slots = pages == nullptr ? keys[0].shape[2] : core::checked_mul(pages->shape[1], keys[0].shape[2], "pages");
    if (msb_bits == 0) return a;
    a.planes = describe_planes(formats::key_planes(msb_bits, new_keys.shape[3]));
    for (int i = 0; i < a.planes.planes; ++i) a.planes.plane[i] = make_part(keys[static_cast<size_t>(i)], 1);
    return a;
}

CompactArgs compact_args(const std::vector<Span>& stored, const Span& index, const Span& counts) {
    formats::check_kv_compact(stored, index, counts);
    if (stored.size() > kStoreParts) {
        throw core::Error("ShapeError", std::to_string(stored.size()) + " tensors", "stored", "at most " + std::to_string(kStoreParts));
    }
    CompactArgs a{};
    a.batch = index.shape[0], a.kv_heads = stored[0].shape[1], a.slots = stored[0].shape[2], a.most_rows = index.shape[1];
    a.parts = static_cast<int>(stored.size());
    for (size_t i = 0; i < stored.size(); ++i) {
        const int unit = unit_of(stored[i]);
        a.moved[i] = {make_part(stored[i], unit), unit};
    }
    a.index = index.as<const int64_t>();
    a.index_batch_stride = index.strides[0], a.index_stride = index.strides[1];
    a.counts = counts.as<const int64_t>(), a.count_stride = counts.strides[0];
    if (core::checked_mul(a.batch, core::checked_mul(a.kv_heads, a.parts, "blocks"), "blocks") > INT32_MAX) {
        throw core::Error("ShapeError", "more sequences and heads than a grid has blocks", "stored", "fewer than 2^31");
    }
    return a;
}

}  // namespace sparsecore::cuda::decode
