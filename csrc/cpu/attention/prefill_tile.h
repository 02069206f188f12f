// One tile of queries of a head, for kernels with vectors. Rows of scores stay in the first-level cache (long ones in the
// second), where softmax, scores and the choice of values pass over them; keys and values stream past.
//
// A Kernel is a struct of static functions in an unnamed namespace of its file:
//   Lanes, kLanes                   vectors of floats, see prefill_avx512.h
//   kRows                           queries of a tile
//   Unit                            element of packed queries, keys and values
//   load_queries(p, out, head, first, count)   out [kRows, padded_width]; rows beyond count are zero
//   multiply(a, a_stride, b, depth, columns, out, out_stride, add)   out [kRows, columns] = (or +=) a [kRows, depth] times a
//                                   panel b; strides and depth in elements, columns at most kPrefillBlock
//   narrow(row, out, block)         a block of a row of scores as Units, in place where Unit is float
//   store(data, index, left, x)     the first `left` elements of a vector to p.out; returns them as they are stored
#pragma once

#include "cpu/attention/prefill_kernels.h"

namespace sparsecore::cpu {

constexpr float kPrefillInfinity = __builtin_inff();

struct PrefillRow {
    float largest = -kPrefillInfinity, total = 0.0f, factor = 0.0f;
    int64_t seen = 0;
    bool counted = false;
};

// A NaN counts as 0: it is in the total of its row, and then in all of its probabilities.
static inline bool prefill_counts(const PrefillRow& row) { return row.counted && row.total == row.total; }

// Which keys the queries see, and the blocks that any of them sees; returns how many blocks.
template <class Kernel>
static inline int64_t prefill_see(const PrefillProblem& p, const PrefillScratch& s, int64_t head, int64_t first,
                                  int64_t count) {
    const auto* mask = static_cast<const uint8_t*>(p.mask.data);
    int64_t active = 0;
    for (int64_t block = 0; block < blocks(p); ++block) {
        const int64_t left = p.keys - block * kPrefillBlock;
        uint64_t any = 0, shared = 0;
        for (int64_t i = 0; i < Kernel::kRows; ++i) {
            uint64_t word = i < count ? prefill_reach(p, first + i, block) : 0;
            if (mask != nullptr && word != 0) {
                if (shared == 0 || p.mask.token_stride != 0) {
                    const int64_t row = prefill_offset(p.mask, p.heads, head, first + i);
                    shared = Kernel::Lanes::bits(mask + row + block * kPrefillBlock, left);
                }
                word &= shared;
            }
            s.seen[i * blocks(p) + block] = word;
            any |= word;
        }
        if (any != 0) s.active[active++] = static_cast<int32_t>(block);
    }
    return active;
}

// exp(score - largest) of the keys that a query sees, else 0; fp32 sums in the order of the keys.
template <class Lanes>
static inline void prefill_weigh(float* row, const uint64_t* seen, const int32_t* active, int64_t count, float scale,
                                 PrefillRow* result) {
    using Float = typename Lanes::Float;
    constexpr int kVectors = kPrefillBlock / Lanes::kLanes;
    Float largest = Lanes::set(-kPrefillInfinity);
    for (int64_t a = 0; a < count; ++a) {
        const float* scores = row + active[a] * kPrefillBlock;
        const uint64_t word = seen[active[a]];
        result->seen += __builtin_popcountll(word);
        for (int v = 0; v < kVectors; ++v) {
            largest = Lanes::max_where(Lanes::mask(word, v), largest, Lanes::load(scores + v * Lanes::kLanes));
        }
    }
    const float top = Lanes::largest(largest);
    // 2^(score * scale * log2 e - the same of the largest).
    const Float slope = Lanes::set(scale * 1.44269504088896341f);
    const Float shift = Lanes::set(result->seen == 0 ? 0.0f : -top * (scale * 1.44269504088896341f));
    Float total = Lanes::set(0.0f);
    for (int64_t a = 0; a < count; ++a) {
        float* scores = row + active[a] * kPrefillBlock;
        const uint64_t word = seen[active[a]];
        for (int v = 0; v < kVectors; ++v) {
            const Float power = Lanes::exp2(Lanes::fma(Lanes::load(scores + v * Lanes::kLanes), slope, shift));
            const Float weight = Lanes::keep(Lanes::mask(word, v), power);
            Lanes::store(scores + v * Lanes::kLanes, weight);
            total = Lanes::add(total, weight);
        }
    }
    result->largest = top * scale;
    result->total = Lanes::sum(total);
    result->factor = result->seen == 0 ? 0.0f : 1.0f / result->total;
}

// Adds the probabilities of the counted queries to the tokens' scores. Added to 1.5 * 2^23, a number below 2^22 is rounded
// to an integer, half to even, which then stands in the low bits; integers that wrap add it up, and take the constant off.
template <class Lanes>
static inline void prefill_add_tokens(const float* scores, int64_t stride, const PrefillRow* rows, int64_t count,
                                      const int32_t* active, int64_t active_blocks, int32_t* tokens) {
    constexpr int kVectors = kPrefillBlock / Lanes::kLanes;
    const typename Lanes::Float shift = Lanes::set(12582912.0f);
    uint32_t shifts = 0;  // the bits of the constant, as often as it is added
    for (int64_t i = 0; i < count; ++i) shifts += prefill_counts(rows[i]) ? 0x4b400000u : 0;
    for (int64_t a = 0; a < active_blocks; ++a) {
        int32_t* block = tokens + active[a] * kPrefillBlock;
        typename Lanes::Int sums[kVectors];
        for (int v = 0; v < kVectors; ++v) {
            sums[v] = Lanes::add_int(Lanes::load_int(block + v * Lanes::kLanes), Lanes::set_int(0u - shifts));
        }
        for (int64_t i = 0; i < count; ++i) {
            if (!prefill_counts(rows[i])) continue;
            const float* row = scores + i * stride + active[a] * kPrefillBlock;
            const typename Lanes::Float factor = Lanes::set(rows[i].factor * kScoreOne);
            for (int v = 0; v < kVectors; ++v) {
                const auto shifted = Lanes::fma(Lanes::load(row + v * Lanes::kLanes), factor, shift);
                sums[v] = Lanes::add_int(sums[v], Lanes::bits_of(shifted));
            }
        }
        for (int v = 0; v < kVectors; ++v) Lanes::store_int(block + v * Lanes::kLanes, sums[v]);
    }
}

// The largest bits that at least `keep` weights of a row reach, fewer than it has. Weights are not negative: their bits
// compare as they do, and grow about as their logarithms. The search begins at the mean, `start`, goes up or down by half a
// power of two and twice as far each time, and then interpolates in what is left, every third time and in the end halving
// it. Any bits that exactly `keep` of them reach will do.
template <class Lanes>
static inline int32_t prefill_bound(const float* row, const int32_t* active, int64_t count, int64_t keep, float start) {
    constexpr int64_t kTop = 0x40000000, kSteps = 8, kGuesses = 16;  // no weight reaches 2
    int64_t low = 0, high = kTop, at_low = count * kPrefillBlock, at_high = 0, step = 1 << 22;
    int64_t probe = core::float_bits(start);
    for (int64_t turn = 1; high - low > 1; ++turn) {
        if (probe <= low || probe >= high) probe = low + (high - low) / 2;
        const int64_t reached = Lanes::reaching(row, active, count, static_cast<int32_t>(probe));
        if (reached == keep) return static_cast<int32_t>(probe);
        (reached > keep ? low : high) = probe;
        (reached > keep ? at_low : at_high) = reached;
        if (turn < kSteps && (low == 0 || high == kTop)) {
            probe += reached > keep ? step : -step;
            step *= 2;
        } else if (turn < kGuesses && turn % 3 != 0) {
            probe = low + (high - low) * (at_low - keep) / (at_low - at_high);
        } else {
            probe = low + (high - low) / 2;
        }
    }
    return static_cast<int32_t>(low);
}

// Keeps only the `keep` largest weights of a row, and in `seen` only their keys.
template <class Lanes>
static inline void prefill_choose(float* row, uint64_t* seen, const int32_t* active, int64_t count, int64_t keep,
                                  const PrefillRow& sums) {
    constexpr int kVectors = kPrefillBlock / Lanes::kLanes;
    const bool nan = sums.total != sums.total;
    const float mean = sums.total / static_cast<float>(sums.seen);
    const int32_t bound = nan ? 0 : prefill_bound<Lanes>(row, active, count, keep, mean);
    // Those at the bound are taken from the lowest index on, as many as are missing. In a row with a NaN all are equal.
    int64_t missing = nan ? keep : keep - Lanes::reaching(row, active, count, bound + 1);
    for (int64_t a = 0; a < count; ++a) {
        float* weights = row + active[a] * kPrefillBlock;
        uint64_t above = 0, at = 0;
        for (int v = 0; v < kVectors && !nan; ++v) {
            above |= Lanes::reach_bits(weights + v * Lanes::kLanes, bound + 1) << (v * Lanes::kLanes);
            at |= Lanes::reach_bits(weights + v * Lanes::kLanes, bound) << (v * Lanes::kLanes);
        }
        uint64_t ties = (nan ? ~uint64_t{0} : at & ~above) & seen[active[a]];
        int64_t surplus = __builtin_popcountll(ties) - missing;
        missing -= surplus < 0 ? __builtin_popcountll(ties) : missing;
        for (; surplus > 0; --surplus) ties &= ~(uint64_t{1} << (63 - __builtin_clzll(ties)));
        seen[active[a]] = above | ties;
        for (int v = 0; v < kVectors; ++v) {
            float* place = weights + v * Lanes::kLanes;
            Lanes::store(place, Lanes::keep(Lanes::mask(above | ties, v), Lanes::load(place)));
        }
    }
}

// Packed values have zeros in place of inf and NaN; here they meet the weights above zero.
static inline void prefill_add_odd_values(const PrefillProblem& p, int64_t key_head, const float* row,
                                          const int32_t* active, int64_t count, float* sums) {
    for (int64_t a = 0; a < count; ++a) {
        const int64_t begin = active[a] * kPrefillBlock, left = p.keys - begin;
        for (int64_t j = begin; j < begin + (left < kPrefillBlock ? left : kPrefillBlock); ++j) {
            if (!(row[j] > 0.0f)) continue;
            const int64_t v = prefill_offset(p.v, p.key_heads, key_head, j);
            for (int64_t c = 0; c < p.value_width; ++c) {
                const float value = core::load_float(p.v.data, v + c, p.dtype);
                if (!(value - value == 0.0f)) sums[c] += value;
            }
        }
    }
}

// Weights times values into s.sums: one product for each run of neighbouring blocks.
template <class Kernel>
static inline void prefill_multiply_values(const PrefillProblem& p, const PrefillKeys& keys, const PrefillScratch& s,
                                           int64_t active) {
    using Unit = typename Kernel::Unit;
    const int64_t stride = panels(p) * kPrefillBlock;
    for (int64_t i = 0; active == 0 && i < Kernel::kRows * stride; ++i) s.sums[i] = 0.0f;
    for (int64_t panel = 0; panel < panels(p); ++panel) {
        const int64_t column = panel * kPrefillBlock, left = p.value_width - column;
        const Unit* values = static_cast<const Unit*>(keys.values) + column * padded_keys(p);
        for (int64_t a = 0; a < active;) {
            const int64_t begin = a, first = s.active[a];
            while (a < active && s.active[a] == first + a - begin) ++a;
            Kernel::multiply(static_cast<const Unit*>(s.weights) + first * kPrefillBlock, row_stride(p),
                             values + first * kPrefillBlock * kPrefillBlock, (a - begin) * kPrefillBlock,
                             left < kPrefillBlock ? left : kPrefillBlock, s.sums + column, stride, begin > 0);
        }
    }
}

// Stores a row of the output from element `first` on; returns what it adds to the score of its head.
template <class Kernel>
static inline int64_t prefill_store(const PrefillProblem& p, int64_t first, const float* sums, float factor) {
    using Lanes = typename Kernel::Lanes;
    auto units = Lanes::no_units();
    for (int64_t c = 0; c < p.value_width; c += Lanes::kLanes) {
        // Sums beyond the width are zero.
        const auto x = Lanes::mul(Lanes::load(sums + c), Lanes::set(factor));
        units = Lanes::add_units(units, Kernel::store(p.out.data, first + c, p.value_width - c, x));
    }
    return Lanes::sum_units(units);
}

// Softmax of the tile; afterwards s.scores has its weights, s.weights the same as Units, s.seen the chosen keys.
template <class Kernel>
static inline void prefill_soften(const PrefillProblem& p, const PrefillScratch& s, int64_t head, int64_t first,
                                  int64_t count, int64_t active, PrefillRow* rows) {
    using Lanes = typename Kernel::Lanes;
    const float scale = p.scale < 0.0f ? -p.scale : p.scale;  // queries carry the sign
    for (int64_t i = 0; i < count; ++i) {
        prefill_weigh<Lanes>(s.scores + i * row_stride(p), s.seen + i * blocks(p), s.active, active, scale, &rows[i]);
        rows[i].counted = rows[i].seen > 0 && prefill_counted(p, head, first + i);
    }
    if (p.token_scores) {
        prefill_add_tokens<Lanes>(s.scores, row_stride(p), rows, count, s.active, active, s.tokens);
    }
    for (int64_t i = 0; i < count; ++i) {
        float* row = s.scores + i * row_stride(p);
        const int64_t keep = value_count(p.value_keep, rows[i].seen);
        if (keep < rows[i].seen) prefill_choose<Lanes>(row, s.seen + i * blocks(p), s.active, active, keep, rows[i]);
        auto* weights = static_cast<typename Kernel::Unit*>(s.weights) + i * row_stride(p);
        for (int64_t a = 0; a < active; ++a) Kernel::narrow(row, weights, s.active[a] * kPrefillBlock);
        for (int64_t a = 0; a < active && rows[i].counted; ++a) {
            s.used[s.active[a]] |= s.seen[i * blocks(p) + s.active[a]];
        }
    }
}

template <class Kernel>
static void prefill_run(const PrefillProblem& p, const PrefillKeys& keys, PrefillScratch& s, int64_t head,
                        int64_t tile) {
    using Unit = typename Kernel::Unit;
    const int64_t first = tile * Kernel::kRows, left = p.queries - first, kv = key_head(p, head);
    const int64_t count = left < Kernel::kRows ? left : Kernel::kRows, stride = panels(p) * kPrefillBlock;
    const int64_t active = prefill_see<Kernel>(p, s, head, first, count);
    const auto* queries = static_cast<const Unit*>(s.queries);
    Kernel::load_queries(p, static_cast<Unit*>(s.queries), head, first, count);
    for (int64_t a = 0; a < active; ++a) {
        const int64_t column = s.active[a] * kPrefillBlock;
        Kernel::multiply(queries, padded_width(p), static_cast<const Unit*>(keys.keys) + column * padded_width(p),
                         p.width, kPrefillBlock, s.scores + column, row_stride(p), false);
    }
    PrefillRow rows[Kernel::kRows];
    prefill_soften<Kernel>(p, s, head, first, count, active, rows);
    prefill_multiply_values<Kernel>(p, keys, s, active);
    const int64_t out = prefill_offset(p.out, p.heads, head, first), lse = prefill_offset(p.lse, p.heads, head, first);
    for (int64_t i = 0; i < count; ++i) {
        float* sums = s.sums + i * stride;
        if (!keys.finite) prefill_add_odd_values(p, kv, s.scores + i * row_stride(p), s.active, active, sums);
        static_cast<float*>(p.lse.data)[lse + i * p.lse.token_stride] =
            rows[i].seen == 0 ? -kPrefillInfinity : rows[i].largest + __builtin_logf(rows[i].total);
        const int64_t score = prefill_store<Kernel>(p, out + i * p.out.token_stride, sums, rows[i].factor);
        if (rows[i].counted) s.head_score += score;
    }
}

}  // namespace sparsecore::cpu
