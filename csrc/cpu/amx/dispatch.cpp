#include <atomic>

#include "core/buffer.h"
#include "core/checked.h"
#include "core/parallel.h"
#include "cpu/amx/strip_linear.h"

namespace sparsecore::cpu {

StripScratch reserve_strip_scratch(int64_t windows, int64_t row_bytes, int64_t tokens) {
    constexpr int64_t kSumBytes = 4;
    thread_local core::AlignedBuffer weights, sums, columns;
    const int64_t block = strip_token_block(row_bytes), pairs = core::ceil_div(tokens < block ? tokens : block, kTokenPair);
    StripScratch scratch{};
    scratch.weights = static_cast<uint8_t*>(weights.reserve(kChunkWindows * 2 * kWindowBytes));
    scratch.sums = static_cast<uint8_t*>(sums.reserve(pairs * kTokenPair * 2 * kStripOutputs * kSumBytes));
    scratch.columns = static_cast<int32_t*>(columns.reserve(core::checked_mul(windows, 4, "windows")));
    return scratch;
}

namespace {

StripScratch reserve_bf16(const LinearCall& call, int64_t tokens) {
    thread_local core::AlignedBuffer x;
    const int64_t windows = core::ceil_div(call.cols, window_columns(2)), block = strip_token_block(call.cols * 2);
    StripScratch scratch = reserve_strip_scratch(windows, call.cols * 2, tokens);
    const int64_t packed = core::checked_mul(tokens < block ? tokens : block, windows * 64, "activations");
    if (!strip_reads_in_place(call)) scratch.x = static_cast<uint8_t*>(x.reserve(packed));
    return scratch;
}

bool all_finite(const LinearCall& call, int threads) {
    constexpr int64_t kValuesPerThread = 1 << 19;  // 1 MiB: some tens of microseconds
    const int64_t useful = call.tokens * call.cols / kValuesPerThread + 1;
    std::atomic<bool> finite{true};
    core::parallel_for(0, call.tokens, 1, useful < threads ? static_cast<int>(useful) : threads,
                       [&](int64_t begin, int64_t end) {
                           if (!all_finite_bf16(call, begin, end)) finite.store(false, std::memory_order_relaxed);
                       });
    return finite.load();
}

}  // namespace

bool strip_linear_amx(const LinearCall& call, const StripSource& source) {
    if (call.tokens <= source.few_tokens || !all_finite(call, call.threads)) return false;
    constexpr double kWorkPerThread = 1 << 23;  // multiply-adds of the dense product, some microseconds
    // Expanding the weights costs about what 32 tokens cost.
    const double useful = static_cast<double>(call.tokens + kTokenPair) * static_cast<double>(call.rows) *
                              static_cast<double>(call.cols) / kWorkPerThread + 1.0;
    const int threads = useful < call.threads ? static_cast<int>(useful) : call.threads;
    const int64_t panels = core::ceil_div(source.strips, source.panel_strips);
    const int64_t pairs = core::ceil_div(call.tokens, kTokenPair);
    if (panels >= 2 * threads || pairs < threads) {
        core::parallel_for(0, panels, 1, threads, [&](int64_t begin, int64_t end) {
            strip_linear_amx_bf16(call, source, {0, call.tokens, begin, end}, reserve_bf16(call, call.tokens));
        });
    } else {
        core::parallel_for(0, pairs, 1, threads, [&](int64_t begin, int64_t end) {
            const int64_t first = begin * kTokenPair, past = end * kTokenPair;
            const int64_t last = past < call.tokens ? past : call.tokens;
            strip_linear_amx_bf16(call, source, {first, last, 0, panels}, reserve_bf16(call, last - first));
        });
    }
    return true;
}

}  // namespace sparsecore::cpu
