// The last kernel of decode attention: sums of the splits in order, divided by those of the exponentials, and the small outputs.
#pragma once

#include "cuda/attention/decode/bytes.h"
#include "cuda/attention/decode/sums.h"
#include "cuda/attention/head_units.h"

namespace sparsecore::cuda::decode {

struct FinishShared {
    Settled query;
    std::int64_t scores[kWarps];
};

template <class T>
SC_DEVICE T& at(const Tensor& tensor, std::int64_t batch, std::int64_t head) {
    return static_cast<T*>(tensor.data)[batch * tensor.batch_stride + head * tensor.head_stride];
}

// Grid: batch * heads. Block: kThreads, one for each element of the output.
static SC_GLOBAL void SC_BOUNDS(kThreads, 2) finish_kernel(Args a) {
    auto& shared = shared_memory<FinishShared>();
    const std::int64_t batch = block_x() / a.heads, head = block_x() % a.heads;
    const int n = rows_of(a, batch).count, d = static_cast<int>(thread_x());
    if (warp_index() == 0) {
        const Settled settled = settle(a, batch, head, n);
        if (lane_index() == 0) shared.query = settled;
    }
    block_barrier();
    const Settled query = shared.query;
    std::int64_t score = 0;
    if (d < a.value_width) {
        float sum = 0.0f;
        const int used = query.alive ? used_splits(a, n) : 0;
        for (int split = 0; split < used; ++split) sum += a.sums[((batch * a.splits + split) * a.heads + head) * a.value_width + d];
        const std::int64_t place = batch * a.out.batch_stride + head * a.out.head_stride + d * a.out.last_stride;
        store_element(a.out.data, place, a.type, query.alive ? sum * query.inverse : 0.0f);
        score = head_units(load_element(a.out.data, place, a.type));
    }
SC_UNROLL
    for (int step = 1; step < kWarpSize; step *= 2) score += shuffle_xor(score, step);
    if (lane_index() == 0) shared.scores[warp_index()] = score;
    block_barrier();
    if (d != 0) return;
    std::int64_t all = 0;
    for (int warp = 0; warp < kWarps; ++warp) all += shared.scores[warp];
    if (a.head_scores.data != nullptr) at<std::int64_t>(a.head_scores, batch, head) = all;
    constexpr float kLn2 = 0.693147180559945309f;
    at<float>(a.lse, batch, head) = query.alive ? kLn2 * (query.largest + log2f(query.sum)) : kNothing;
    at<std::uint8_t>(a.low, batch, head) = query.low;
    const int used = !query.alive ? 0 : a.cuts == nullptr ? n : a.cuts[batch * a.heads + head].count;
    at<std::int32_t>(a.values_used, batch, head) = used;
}

}  // namespace sparsecore::cuda::decode
