// The same layouts on AMX: many tokens meet strips on tiles, few take the AVX-512 kernel.
#include <algorithm>

#include "cpu/amx/strip_linear.h"
#include "cpu/bitmask_linear/strips.h"

namespace sparsecore::cpu {

#if defined(SPARSECORE_HAVE_AMX)

namespace {

// Cycles for 16 rows of 32 columns: the AVX-512 kernel takes one a value and 16 tokens, tiles one a token (32 cycles
// for two tiles of tokens) once the window is dense. Making it dense takes a transpose, or some cycles a value.
int64_t few_tokens(const BitmaskWeight& w) {
    const double values = 512.0 * static_cast<double>(w.nnz) / std::max(1.0, static_cast<double>(w.rows) * static_cast<double>(w.cols));
    const double expand = w.bitmask != nullptr ? 130.0 : 80.0 + 2.5 * values, saved = values / 16.0 - 1.0;
    return saved > 0.0 ? std::max<int64_t>(4, static_cast<int64_t>(expand / saved)) : INT64_MAX;
}

}  // namespace

void bitmask_linear_amx(const LinearCall& call, const BitmaskWeight& weight) {
    StripSource source{&weight, weight.rows / kStripOutputs + (weight.rows % kStripOutputs != 0)};
    source.few_tokens = few_tokens(weight);
    source.open = open_unstructured_strip;
    source.expand = weight.bitmask != nullptr ? expand_bitmask16_avx512 : expand_lists16_avx512;
    source.batch = weight.bitmask != nullptr ? 1 : kChunk / 32;
    const bool tiles = weight.dtype == core::DType::BF16 && weight.cols <= INT32_MAX - kChunk;
    if (!tiles || !strip_linear_amx(call, source)) bitmask_linear_avx512(call, weight);
}

#endif

}  // namespace sparsecore::cpu
