// One query after another, in plain loops: nothing is packed.
#include <algorithm>
#include <cmath>

#include "cpu/attention/prefill_kernels.h"

namespace sparsecore::cpu {

namespace {

constexpr float kInfinity = __builtin_inff();

bool bit(const uint64_t* words, int64_t j) { return (words[j / kPrefillBlock] >> (j % kPrefillBlock) & 1) != 0; }

// Which keys the query sees; returns how many.
int64_t look(const PrefillProblem& p, int64_t head, int64_t query, uint64_t* seen) {
    int64_t count = 0;
    for (int64_t block = 0; block < blocks(p); ++block) {
        uint64_t word = prefill_reach(p, query, block);
        if (p.mask.data != nullptr) {
            const auto* mask = static_cast<const uint8_t*>(p.mask.data) + prefill_offset(p.mask, p.heads, head, query);
            for (int64_t j = block * kPrefillBlock; j < p.keys && j < (block + 1) * kPrefillBlock; ++j) {
                if (mask[j] == 0) word &= ~(uint64_t{1} << (j % kPrefillBlock));
            }
        }
        seen[block] = word;
        count += __builtin_popcountll(word);
    }
    return count;
}

// exp(score - largest) of the seen keys, else 0, into `row`; returns the sum and sets `largest`.
float weigh(const PrefillProblem& p, int64_t head, int64_t query, const uint64_t* seen, float* row, float* largest) {
    const int64_t q = prefill_offset(p.q, p.heads, head, query), kv = key_head(p, head);
    float top = -kInfinity, total = 0.0f;
    for (int64_t j = 0; j < p.keys; ++j) {
        if (!bit(seen, j)) continue;
        const int64_t k = prefill_offset(p.k, p.key_heads, kv, j);
        float sum = 0.0f;
        for (int64_t d = 0; d < p.width; ++d) {
            sum += core::load_float(p.q.data, q + d, p.dtype) * core::load_float(p.k.data, k + d, p.dtype);
        }
        row[j] = sum * p.scale;
        top = std::max(top, row[j]);
    }
    for (int64_t j = 0; j < p.keys; ++j) {
        row[j] = bit(seen, j) ? std::exp(row[j] - top) : 0.0f;
        total += row[j];
    }
    *largest = top;
    return total;
}

// Leaves the bits of the `count` largest of the seen entries of `row`; NaN is largest, equal ones go to the lower index.
void choose(const PrefillProblem& p, int64_t count, const float* row, uint64_t* seen, int32_t* order) {
    int64_t number = 0;
    for (int64_t j = 0; j < p.keys; ++j) {
        if (bit(seen, j)) order[number++] = static_cast<int32_t>(j);
    }
    if (count == number) return;
    const auto before = [row](int32_t a, int32_t b) {
        return row[a] > row[b] || (row[a] == row[b] && a < b);
    };
    // A row with a NaN holds nothing else where it is seen: its order is that of the indices.
    const bool nan = number > 0 && row[order[0]] != row[order[0]];
    if (!nan) std::nth_element(order, order + count, order + number, before);
    for (int64_t i = count; i < number; ++i) seen[order[i] / kPrefillBlock] &= ~(uint64_t{1} << (order[i] % kPrefillBlock));
}

int64_t store(const PrefillProblem& p, int64_t head, int64_t query, const float* sums, float factor) {
    const int64_t first = prefill_offset(p.out, p.heads, head, query);
    int64_t score = 0;
    for (int64_t c = 0; c < p.value_width; ++c) {
        core::store_float(p.out.data, first + c, p.dtype, sums[c] * factor);
        const double units = std::nearbyint(std::fabs(core::load_float(p.out.data, first + c, p.dtype)) * double{kScoreOne});
        if (units == units) score += static_cast<int64_t>(std::min(units, double{kLargestOutput}));
    }
    return score;
}

void run(const PrefillProblem& p, const PrefillKeys&, PrefillScratch& scratch, int64_t head, int64_t query) {
    uint64_t* seen = scratch.seen;
    float *row = scratch.scores, *sums = scratch.sums, largest;
    const int64_t count = look(p, head, query, seen), kv = key_head(p, head);
    const bool counted = prefill_counted(p, head, query);
    float total = weigh(p, head, query, seen, row, &largest);
    static_cast<float*>(p.lse.data)[prefill_offset(p.lse, p.heads, head, query)] =
        count == 0 ? -kInfinity : largest + std::log(total);
    if (total != total) std::fill(row, row + p.keys, total);
    const float factor = count == 0 ? 0.0f : 1.0f / total;
    for (int64_t j = 0; j < p.keys && counted && total == total; ++j) {
        scratch.tokens[j] += static_cast<int32_t>(std::nearbyint(row[j] * factor * kScoreOne));
    }
    choose(p, value_count(p.value_keep, count), row, seen, static_cast<int32_t*>(scratch.weights));
    std::fill(sums, sums + p.value_width, 0.0f);
    for (int64_t j = 0; j < p.keys; ++j) {
        if (!bit(seen, j) || row[j] == 0.0f) continue;
        const int64_t v = prefill_offset(p.v, p.key_heads, kv, j);
        for (int64_t c = 0; c < p.value_width; ++c) sums[c] += row[j] * core::load_float(p.v.data, v + c, p.dtype);
    }
    const int64_t score = store(p, head, query, sums, factor);
    if (!counted) return;
    scratch.head_score += score;
    for (int64_t block = 0; block < blocks(p); ++block) scratch.used[block] |= seen[block];
}

}  // namespace

PrefillKernels prefill_portable() { return {1, 0, nullptr, run}; }

}  // namespace sparsecore::cpu
