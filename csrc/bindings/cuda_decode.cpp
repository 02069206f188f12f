#include <pybind11/stl.h>

#include <optional>
#include <vector>

#include "bindings/cuda_launch.h"
#include "bindings/span_caster.h"
#include "cuda/attention/decode/decode.h"
#include "cuda/attention/decode/store.h"
#include "cuda/runtime/launch.h"

namespace sparsecore::bindings {

namespace py = pybind11;
using namespace py::literals;
namespace decode = cuda::decode;
using core::Span;
using Spans = std::vector<Span>;
using OptionalSpan = std::optional<Span>;

namespace {

const Span* pointer(const OptionalSpan& span) { return span ? &*span : nullptr; }

int64_t workspace(int64_t batch, int64_t heads, int64_t kv_heads, int64_t value_width, int64_t most_rows, bool prunes_values,
                  bool group_values) {
    const decode::Sizes sizes{batch, heads, kv_heads, value_width, most_rows, prunes_values, group_values};
    return decode::workspace_bytes(sizes, decode::splits_for(sizes, cuda::multiprocessors()));
}

void attention(const Span& q, const Spans& keys, const Spans& values, const Span& starts, const Span& lengths, int64_t width,
               const OptionalSpan& rows, const OptionalSpan& row_counts, const OptionalSpan& heads, const OptionalSpan& pages,
               int msb_bits, float scale, float threshold, double value_keep, float value_mass, bool group_values,
               const Span& out, const Span& lse, const OptionalSpan& token_scores, const OptionalSpan& head_scores,
               const Span& low, const Span& values_used, const Span& memory, uint64_t stream) {
    const cpu::DecodeSeen seen{&starts, &lengths, pointer(rows), pointer(row_counts), pointer(heads), width, pointer(pages)};
    const decode::Args args = decode::decode_args(
        q, {keys, values, msb_bits}, seen, {scale, threshold, value_mass, value_keep, group_values},
        {&out, &lse, pointer(token_scores), pointer(head_scores), &low, &values_used}, memory, cuda::multiprocessors());
    decode::decode_launch(args, stream);
}

void append(const Spans& keys, const Spans& values, const Span& new_keys, const Span& new_values, const Span& positions,
            const OptionalSpan& pages, int msb_bits, int value_bits, uint64_t stream) {
    decode::append_launch(
        decode::append_args(keys, values, new_keys, new_values, positions, pointer(pages), msb_bits, value_bits), stream);
}

void compact(const Spans& stored, const Span& index, const Span& counts, uint64_t stream) {
    decode::compact_launch(decode::compact_args(stored, index, counts), stream);
}

}  // namespace

void bind_cuda_decode(py::module_& m) {
    m.def("cuda_decode_workspace", &workspace, "batch"_a, "heads"_a, "kv_heads"_a, "value_width"_a, "most_rows"_a,
          "prunes_values"_a, "group_values"_a, "Bytes of the workspace of cuda_decode_attention on the current device.");
    m.def("cuda_decode_attention", &attention, "q"_a, "keys"_a, "values"_a, "starts"_a, "lengths"_a, "width"_a,
          "rows"_a.none(true), "row_counts"_a.none(true), "heads"_a.none(true), "pages"_a.none(true), "msb_bits"_a, "scale"_a,
          "threshold"_a, "value_keep"_a, "value_mass"_a, "group_values"_a, "out"_a, "lse"_a, "token_scores"_a.none(true),
          "head_scores"_a.none(true), "low"_a, "values_used"_a, "workspace"_a, "stream"_a, ReleaseGil(),
          "Queue decode_attention on a CUDA stream; all spans hold device pointers.");
    m.def("cuda_kv_append", &append, "keys"_a, "values"_a, "new_keys"_a, "new_values"_a, "positions"_a, "pages"_a.none(true),
          "msb_bits"_a, "value_bits"_a, "stream"_a, ReleaseGil(), "Queue kv_append on a CUDA stream.");
    m.def("cuda_kv_compact", &compact, "stored"_a, "index"_a, "counts"_a, "stream"_a, ReleaseGil(),
          "Queue kv_compact on a CUDA stream.");
}

}  // namespace sparsecore::bindings
