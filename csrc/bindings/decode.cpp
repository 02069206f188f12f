#include "cpu/attention/decode/decode.h"

#include <pybind11/stl.h>

#include <optional>
#include <vector>

#include "bindings/bind.h"
#include "bindings/span_caster.h"
#include "formats/bitplane.h"

namespace sparsecore::bindings {

namespace py = pybind11;
using namespace py::literals;
using core::Span;
using Spans = std::vector<Span>;
using OptionalSpan = std::optional<Span>;

namespace {

const Span* pointer(const OptionalSpan& span) { return span ? &*span : nullptr; }

void decode(const Span& q, const Spans& keys, const Spans& values, const Span& starts, const Span& lengths, int64_t width,
            const OptionalSpan& rows, const OptionalSpan& row_counts, const OptionalSpan& heads, int msb_bits, float scale,
            float threshold, double value_keep, float value_mass, bool group_values, const Span& out, const Span& lse,
            const OptionalSpan& token_scores, const OptionalSpan& head_scores, const Span& low, const Span& values_used,
            int threads) {
    cpu::decode_attention(q, {keys, values, msb_bits},
                          {&starts, &lengths, pointer(rows), pointer(row_counts), pointer(heads), width},
                          {scale, threshold, value_mass, value_keep, group_values},
                          {&out, &lse, pointer(token_scores), pointer(head_scores), &low, &values_used}, threads);
}

}  // namespace

void bind_decode(py::module_& m) {
    m.def("decode_attention", &decode, "q"_a, "keys"_a, "values"_a, "starts"_a, "lengths"_a, "width"_a,
          "rows"_a.none(true), "row_counts"_a.none(true), "heads"_a.none(true), "msb_bits"_a, "scale"_a, "threshold"_a,
          "value_keep"_a, "value_mass"_a, "group_values"_a, "out"_a, "lse"_a, "token_scores"_a.none(true),
          "head_scores"_a.none(true), "low"_a, "values_used"_a, "threads"_a, ReleaseGil(),
          "Attention of one new token of each sequence over a store of keys and values; heads and low as bytes.");
    m.def("kv_append", &formats::kv_append, "keys"_a, "values"_a, "new_keys"_a, "new_values"_a, "positions"_a,
          "msb_bits"_a, "value_bits"_a, "threads"_a, ReleaseGil(),
          "Quantises tokens as a store of keys and values holds them and writes them to its slots.");
    m.def("kv_compact", &formats::kv_compact, "stored"_a, "index"_a, "counts"_a, "threads"_a, ReleaseGil(),
          "Moves the listed rows of every tensor of a store to its first slots.");
}

}  // namespace sparsecore::bindings
