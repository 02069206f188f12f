#include "cpu/attention/decode/check.h"

#include <cmath>
#include <string>

#include "core/checked.h"
#include "core/error.h"
#include "formats/bitplane.h"

namespace sparsecore::cpu {

namespace {

using core::DType;
using core::Span;

DecodePart part_of(const Span& span, const char* name, std::initializer_list<int64_t> shape) {
    core::require_shape(span, name, shape);
    const int64_t item = core::itemsize(span.dtype);
    if (span.ndim == 4 && span.shape[3] > 1 && span.strides[3] != 1) {
        throw core::Error("ShapeError", std::string(name) + " has gaps within a row", name, "the last stride 1",
                          "call .contiguous()");
    }
    return {span.as<const uint8_t>(), core::checked_mul(span.strides[0], item, name),
            core::checked_mul(span.strides[1], item, name), core::checked_mul(span.strides[2], item, name)};
}

void fill_planes(const DecodeStore& store, DecodeProblem& p, int64_t owners, int64_t slots) {
    const formats::KeyPlanes planes = formats::key_planes(store.msb_bits, p.width);
    if (static_cast<int>(store.keys.size()) != planes.count + 1) {
        throw core::Error("ShapeError", std::to_string(store.keys.size()) + " tensors of keys", "keys",
                          std::to_string(planes.count) + " planes and their scales");
    }
    p.planes = planes.count;
    for (int i = 0; i < planes.count; ++i) {
        const Span& span = store.keys[static_cast<size_t>(i)];
        core::require_dtype(span, "keys", DType::U8);
        const formats::KeyPlane& plane = planes.plane[i];
        p.plane[i] = {part_of(span, "keys", {owners, p.kv_heads, slots, plane.bytes}), plane.nibbles, i == 0,
                      plane.offset, plane.bits};
    }
    core::require_dtype(store.keys.back(), "key scales", DType::F32);
    p.key_scales = part_of(store.keys.back(), "key scales", {owners, p.kv_heads, slots});
}

// `paged`: rows are owned by any number of pages and not by the sequences.
void fill_store(const Span& q, const DecodeStore& store, bool paged, DecodeProblem& p) {
    if (store.keys.empty() || store.values.empty() || store.values.size() > 2) {
        throw core::Error("ShapeError", "tensors of the store are missing", "keys, values", "at least one of each");
    }
    core::require_shape(store.keys[0], "keys", {paged ? -1 : p.batch, -1, -1, -1});
    p.kv_heads = store.keys[0].shape[1];
    const int64_t owners = store.keys[0].shape[0], slots = store.keys[0].shape[2];
    if (p.kv_heads == 0 || p.heads % p.kv_heads != 0 || slots > INT32_MAX - kDecodePad) {
        throw core::Error("ShapeError", "keys are " + core::shape_text(store.keys[0]) + ", q " + core::shape_text(q), "keys",
                          "heads that divide those of q, fewer than 2^31 slots");
    }
    p.group = p.heads / p.kv_heads;
    if (store.msb_bits != 0) {
        fill_planes(store, p, owners, slots);
    } else {
        core::require_dtype(store.keys[0], "keys", q.dtype);
        p.key_type = q.dtype;
        p.keys = part_of(store.keys[0], "keys", {owners, p.kv_heads, slots, p.width});
        if (store.keys.size() != 1) throw core::Error("ShapeError", "planes of dense keys", "keys", "one tensor");
    }
    const Span& values = store.values[0];
    p.values = part_of(values, "values", {owners, p.kv_heads, slots, -1});
    p.value_width = values.shape[3];
    p.value_type = values.dtype;
    if (store.values.size() == 1) return core::require_float(values, "values");
    core::require_dtype(values, "values", DType::I8);
    core::require_dtype(store.values[1], "value scales", DType::F32);
    p.value_scales = part_of(store.values[1], "value scales", {owners, p.kv_heads, slots});
}

// Slots of a sequence: of its buffers, or of the pages that its row of the table names.
int64_t fill_pages(const DecodeSeen& seen, const DecodeStore& store, DecodeProblem& p) {
    const int64_t slots = store.keys[0].shape[2];
    if (seen.pages == nullptr) return slots;
    core::require_shape(*seen.pages, "pages", {p.batch, -1});
    core::require_dtype(*seen.pages, "pages", DType::I32);
    p.pages = store.keys[0].shape[0];
    p.page_slots = slots;
    p.page_table = {seen.pages->data, seen.pages->strides[0], seen.pages->strides[1], 0};
    if (p.pages == 0 || slots < 16 || slots > 256 || (slots & (slots - 1)) != 0) {
        throw core::Error("ShapeError", "keys are " + core::shape_text(store.keys[0]), "keys",
                          "at least one page of 16, 32, 64, 128 or 256 slots");
    }
    return core::checked_mul(seen.pages->shape[1], slots, "pages");
}

void fill_seen(const DecodeSeen& seen, const DecodeStore& store, DecodeProblem& p) {
    const Span* counts[] = {seen.starts, seen.lengths, seen.row_counts};
    const char* names[] = {"starts", "lengths", "row_counts"};
    for (int i = 0; i < 3; ++i) {
        if (counts[i] == nullptr) continue;
        core::require_shape(*counts[i], names[i], {p.batch});
        core::require_dtype(*counts[i], names[i], DType::I64);
    }
    if (seen.rows == nullptr && seen.row_counts != nullptr) {
        throw core::Error("InvalidValueError", "row_counts without rows", "row_counts", "both or none");
    }
    const int64_t slots = fill_pages(seen, store, p);
    if (seen.width < 0 || seen.width > slots) {
        throw core::Error("InvalidValueError", "width is " + std::to_string(seen.width), "width",
                          "0 to " + std::to_string(slots) + ", the slots of the store");
    }
    p.slots = p.most_rows = seen.width;
    if (seen.rows != nullptr) {
        core::require_shape(*seen.rows, "rows", {p.batch, -1});
        core::require_dtype(*seen.rows, "rows", DType::I64);
        p.most_rows = seen.rows->shape[1];
    }
    if (seen.heads == nullptr) return;
    core::require_shape(*seen.heads, "heads", {p.batch, p.heads});
    core::require_dtype(*seen.heads, "heads", DType::U8);
    p.heads_kept = {seen.heads->data, seen.heads->strides[0], seen.heads->strides[1], 0};
}

DecodeTensor output(const Span* span, const char* name, DType dtype, std::initializer_list<int64_t> shape, const Span& q,
                    const DecodeStore& store) {
    if (span == nullptr) return {};
    core::require_shape(*span, name, shape);
    core::require_dtype(*span, name, dtype);
    core::require_disjoint(*span, name, q, "q");
    for (const Span& part : store.keys) core::require_disjoint(*span, name, part, "keys");
    for (const Span& part : store.values) core::require_disjoint(*span, name, part, "values");
    const int last = span->ndim - 1;
    return {span->data, span->strides[0], span->strides[1], last >= 2 ? span->strides[last] : 0};
}

void check_rule(const DecodeRule& rule) {
    if (!std::isfinite(rule.scale) || std::isnan(rule.threshold) || std::isnan(rule.value_mass)) {
        throw core::Error("InvalidValueError", "scale, threshold or value_mass is not finite", "scale", "finite numbers");
    }
    if (!(rule.value_keep > 0.0 && rule.value_keep <= 1.0)) {
        throw core::Error("InvalidValueError", "value_keep is " + std::to_string(rule.value_keep), "value_keep",
                          "0 < value_keep <= 1");
    }
}

void require_packed_scores(const DecodeTensor& scores) {
    if (scores.data == nullptr || scores.last_stride == 1) return;
    throw core::Error("ShapeError", "token_scores has gaps within a row", "token_scores", "the last stride 1");
}

}  // namespace

DecodeProblem decode_problem(const Span& q, const DecodeStore& store, const DecodeSeen& seen, const DecodeRule& rule,
                             const DecodeOutputs& outputs) {
    check_rule(rule);
    core::require_shape(q, "q", {-1, -1, 1, -1});
    core::require_float(q, "q");
    DecodeProblem p;
    p.batch = q.shape[0];
    p.heads = q.shape[1];
    p.width = q.shape[3];
    p.type = q.dtype;
    p.q = {q.data, q.strides[0], q.strides[1], q.strides[3]};
    p.scale = rule.scale;
    p.threshold = rule.threshold;
    p.value_mass = rule.value_mass;
    p.value_keep = rule.value_keep;
    p.group_values = rule.group_values;
    fill_store(q, store, seen.pages != nullptr, p);
    fill_seen(seen, store, p);
    p.out = output(outputs.out, "out", p.type, {p.batch, p.heads, 1, p.value_width}, q, store);
    p.lse = output(outputs.lse, "lse", DType::F32, {p.batch, p.heads, 1}, q, store);
    p.token_scores = output(outputs.token_scores, "token_scores", DType::I64, {p.batch, p.heads, p.most_rows}, q, store);
    require_packed_scores(p.token_scores);
    p.head_scores = output(outputs.head_scores, "head_scores", DType::I64, {p.batch, p.heads}, q, store);
    p.low = output(outputs.low, "low", DType::U8, {p.batch, p.heads}, q, store);
    p.values_used = output(outputs.values_used, "values_used", DType::I32, {p.batch, p.heads}, q, store);
    return p;
}

}  // namespace sparsecore::cpu
