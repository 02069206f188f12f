#include <algorithm>

#include "core/buffer.h"
#include "core/checked.h"
#include "core/isa.h"
#include "cpu/block_linear/kernels.h"
#include "cpu/common/linear_prepare.h"

namespace sparsecore::cpu {

namespace {

// What a block row costs: its weights once for each token, and the end of its outputs.
int64_t cost_before(const BlockWeight& w, int64_t block_row) {
    return w.row_offsets[block_row] * w.block_cols + 8 * block_row;
}

// Block row at which part i of `parts` of equal cost begins.
int64_t part_begin(const BlockWeight& w, int64_t i, int64_t parts) {
    const int64_t rows = block_row_count(w), total = cost_before(w, rows);
    const int64_t wanted = total / parts * i + total % parts * i / parts;
    int64_t low = 0, high = rows;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (cost_before(w, middle) < wanted) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return i == parts ? rows : low;
}

// Many tokens are divided among the threads, few share the block rows. Each output is computed by one thread in an
// order that does not depend on the division.
template <class Body>
void for_block_parts(const LinearCall& call, const BlockWeight& w, Body&& body) {
    constexpr int64_t kWorkPerThread = 1 << 16, kTokensPerThread = 48;
    const int64_t rows = block_row_count(w);
    const int64_t work = call.tokens * (w.row_offsets[rows] * w.block_rows * w.block_cols + call.rows);
    const int threads = static_cast<int>(std::min<int64_t>(work / kWorkPerThread + 1, call.threads));
    if (call.tokens >= threads * kTokensPerThread) {
        core::parallel_for(0, call.tokens, 1, threads,
                           [&](int64_t begin, int64_t end) { body(BlockPart{begin, end, 0, rows}); });
        return;
    }
    core::parallel_for(0, threads, 1, threads, [&](int64_t begin, int64_t end) {
        const BlockPart part{0, call.tokens, part_begin(w, begin, threads), part_begin(w, end, threads)};
        if (part.row_begin < part.row_end) body(part);
    });
}

// The kernel of an instruction set that this build does not have is never asked for.
void run_bands_with(BandKernel kernel, const LinearCall& call, const BlockWeight& weight) {
    const char* what = "activations";
    const int64_t cols = core::checked_mul(block_column_count(weight), weight.block_cols, what);
    const int64_t bytes = core::checked_add(core::checked_mul(std::max(kPanelWords, cols), 4, what), kBandSlack, what);
    for_block_parts(call, weight, [&](const BlockPart& part) {
        thread_local core::AlignedBuffer panel;
        kernel(call, weight, part, panel.reserve(bytes));
    });
}

void run_narrow_with(NarrowKernel kernel, int64_t lanes, const LinearCall& call, const BlockWeight& weight) {
    const int64_t cols = block_column_count(weight) * weight.block_cols;  // at most 2 * kNarrowCols
    const int64_t tokens = narrow_vectors(weight, lanes) * lanes;
    for_block_parts(call, weight, [&](const BlockPart& part) {
        thread_local core::AlignedBuffer x, values, sums;
        const NarrowScratch scratch{static_cast<float*>(x.reserve(cols * tokens * 4 + kBandSlack)),
                                    static_cast<float*>(values.reserve(cols * weight.block_rows * 4 + kBandSlack)),
                                    static_cast<float*>(sums.reserve(tokens * lanes * 4))};
        kernel(call, weight, part, scratch);
    });
}

}  // namespace

void block_linear_stored(const LinearCall& call, const BlockWeight& weight) {
    for_block_parts(call, weight, [&](const BlockPart& part) {
        thread_local core::AlignedBuffer tile;
        const int64_t bytes = core::checked_mul(weight.cols, kPortableTile * 4, "activations");
        block_linear_portable(call, weight, part, static_cast<float*>(tile.reserve(bytes)));
    });
}

#if defined(SPARSECORE_HAVE_AVX2)
void block_linear_bands_avx2(const LinearCall& call, const BlockWeight& weight) {
    run_bands_with(block_bands_avx2, call, weight);
}
void block_linear_narrow_avx2(const LinearCall& call, const BlockWeight& weight) {
    run_narrow_with(block_narrow_avx2, 8, call, weight);
}
#else
void block_linear_bands_avx2(const LinearCall&, const BlockWeight&) {}
void block_linear_narrow_avx2(const LinearCall&, const BlockWeight&) {}
#endif

#if defined(SPARSECORE_HAVE_AVX512)
void block_linear_bands_avx512(const LinearCall& call, const BlockWeight& weight) {
#if defined(SPARSECORE_HAVE_AVX512BF16)
    static const bool has_bf16 = core::cpu_has("avx512bf16");
    if (has_bf16 && step_inputs(weight.dtype, weight.block_cols) == 2) {
        return run_bands_with(block_bands_avx512_bf16, call, weight);
    }
#endif
    run_bands_with(block_bands_avx512, call, weight);
}
void block_linear_narrow_avx512(const LinearCall& call, const BlockWeight& weight) {
    run_narrow_with(block_narrow_avx512, 16, call, weight);
}
#else
void block_linear_bands_avx512(const LinearCall&, const BlockWeight&) {}
void block_linear_narrow_avx512(const LinearCall&, const BlockWeight&) {}
#endif

}  // namespace sparsecore::cpu
