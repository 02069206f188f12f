#include <pybind11/stl.h>

#include <optional>

#include "bindings/cuda_launch.h"
#include "bindings/span_caster.h"
#include "cuda/attention/prefill/prefill.h"

namespace sparsecore::bindings {

namespace py = pybind11;
using namespace py::literals;
using core::Span;

namespace {

const Span* pointer(const std::optional<Span>& span) { return span ? &*span : nullptr; }

void scored(const Span& q, const Span& k, const Span& v, const std::optional<Span>& mask,
            const std::optional<Span>& counted, const std::optional<Span>& block_offsets,
            const std::optional<Span>& block_indices, int64_t query_block, int64_t key_block, bool causal, float scale,
            double value_keep, const Span& out, const Span& lse, const std::optional<Span>& token_scores,
            const std::optional<Span>& head_scores, const std::optional<Span>& used, const Span& scratch,
            const Span& odd_count, const Span& odd_queries, uint64_t stream) {
    const Span none;
    const cuda::PrefillBlocks blocks{block_offsets ? *block_offsets : none, block_indices ? *block_indices : none, query_block,
                                     key_block};
    const cuda::PrefillArgs args = cuda::prefill_args(
        {q, k, v, pointer(mask), pointer(counted), causal, scale, value_keep}, block_offsets ? &blocks : nullptr,
        {out, lse, pointer(token_scores), pointer(head_scores), pointer(used)}, {scratch, odd_count, odd_queries});
    cuda::prefill_launch(args, q.dtype, stream);
}

}  // namespace

void bind_cuda_prefill(py::module_& m) {
    m.def("cuda_scored_attention_scratch", &cuda::prefill_scratch_floats, "rows"_a, "keys"_a,
          "Floats of scratch memory for so many queries of all heads.");
    m.def("cuda_scored_attention", &scored, "q"_a, "k"_a, "v"_a, "mask"_a.none(true), "counted"_a.none(true),
          "block_offsets"_a.none(true), "block_indices"_a.none(true), "query_block"_a, "key_block"_a, "causal"_a, "scale"_a,
          "value_keep"_a, "out"_a, "lse"_a, "token_scores"_a.none(true), "head_scores"_a.none(true), "used"_a.none(true),
          "scratch"_a, "odd_count"_a, "odd_queries"_a, "stream"_a, ReleaseGil(),
          "Queue attention with importance scores on a CUDA stream; scores, used and odd_count are zeros. All spans hold "
          "device pointers.");
}

}  // namespace sparsecore::bindings
