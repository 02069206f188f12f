#include "cpu/attention/attention.h"

#include <pybind11/stl.h>

#include <optional>

#include "bindings/bind.h"
#include "bindings/span_caster.h"

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

}  // namespace

void bind_attention(py::module_& m) {
    m.def("bitplane_attention", &attention, "q"_a, "k"_a, "v"_a, "mask"_a.none(true), "scale"_a, "msb_bits"_a,
          "lsb_bits"_a, "threshold"_a, "out"_a, "column_sums"_a, "needs_lsb"_a, "threads"_a, ReleaseGil(),
          "Attention on the high bits of the keys, with their low bits for the queries whose largest probability is "
          "below the threshold; mask and needs_lsb as bytes.");
}

}  // namespace sparsecore::bindings
