#include "cpu/attention/attention.h"

#include <pybind11/stl.h>

#include <optional>

#include "bindings/bind.h"
#include "bindings/span_caster.h"
#include "cpu/attention/prefill.h"

namespace sparsecore::bindings {

namespace py = pybind11;
using namespace py::literals;
using core::Span;

namespace {

void attention(const Span& q, const Span& k, const Span& v, const std::optional<Span>& mask, float scale, int msb_bits,
               int lsb_bits, float threshold, const Span& out, const Span& column_sums, const Span& needs_lsb,
               int threads) {
    cpu::bitplane_attention(q, k, v, mask ? &*mask : nullptr, {scale, msb_bits, lsb_bits, threshold}, out, column_sums,
                            needs_lsb, threads);
}

const Span* pointer(const std::optional<Span>& span) { return span ? &*span : nullptr; }

void scored(const Span& q, const Span& k, const Span& v, const std::optional<Span>& mask,
            const std::optional<Span>& counted, bool causal, float scale, double value_keep, const Span& out,
            const Span& lse, const std::optional<Span>& token_scores, const std::optional<Span>& head_scores,
            const Span& values_used, int threads) {
    cpu::scored_attention({q, k, v, pointer(mask), pointer(counted), causal, scale, value_keep},
                          {out, lse, pointer(token_scores), pointer(head_scores), values_used}, threads);
}

}  // namespace

void bind_attention(py::module_& m) {
    m.def("bitplane_attention", &attention, "q"_a, "k"_a, "v"_a, "mask"_a.none(true), "scale"_a, "msb_bits"_a,
          "lsb_bits"_a, "threshold"_a, "out"_a, "column_sums"_a, "needs_lsb"_a, "threads"_a, ReleaseGil(),
          "Attention on the high bits of the keys, with their low bits for the queries whose largest probability is "
          "below the threshold; mask and needs_lsb as bytes.");
    m.def("scored_attention", &scored, "q"_a, "k"_a, "v"_a, "mask"_a.none(true), "counted"_a.none(true), "causal"_a,
          "scale"_a, "value_keep"_a, "out"_a, "lse"_a, "token_scores"_a.none(true), "head_scores"_a.none(true),
          "values_used"_a, "threads"_a, ReleaseGil(),
          "Attention with importance scores in integers; mask and counted as bytes, a mask for every head and query.");
}

}  // namespace sparsecore::bindings
