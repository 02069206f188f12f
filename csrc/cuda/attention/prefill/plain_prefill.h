// Attention of many queries without tensor cores: what the other kernels leave. That is fp32, heads wider than 256, value_keep below 1, and
// single queries whose values are infinite or NaN.
//
// A block takes 8 queries of a head through all their keys; a thread has every 128th key, and the weights of its keys in scratch memory,
// which stays in L2. The values that a query keeps are found by bisection: the bits of the smallest weight, then the place up to which equal
// ones belong to them. Floor: Lq * Lk * (D + Dv) multiply-adds a head at 128 a clock and SM, an eighth of what tensor cores do or less; about half
// of it can be reached, as each element of a key is one load for 8 multiply-adds. A bisection reads the weights some 10 to 45 times.
#pragma once

#include "cuda/attention/prefill/output.h"

namespace sparsecore::cuda {

constexpr int kPlainWarps = kPlainThreads / kWarpSize;

struct PlainShared {
    float q[kPlainMostWidth][kPlainQueries];
    float weights[kPlainThreads][kPlainQueries];
    int keys[kPlainThreads];
    float parts[kPlainWarps][kWarpSize][kPlainQueries];
    std::int64_t exchange[kPlainWarps][kPlainQueries];
    float totals[kPlainQueries];
};

template <class V>
using PerQuery = V[kPlainQueries];

struct LargerOf {
    SC_DEVICE static float of(float a, float b) { return fmaxf(a, b); }
};
struct SumOf {
    template <class V>
    SC_DEVICE static V of(V a, V b) {
        return a + b;
    }
};

// Combines the values of all threads, in the same order on every run.
template <class Combine, class V>
SC_DEVICE void combine_block(PlainShared& shared, PerQuery<V>& values) {
    static_assert(sizeof(V) <= sizeof(std::int64_t));
    const int warp = static_cast<int>(thread_x()) / kWarpSize;
    block_barrier();
SC_UNROLL
    for (int r = 0; r < kPlainQueries; ++r) {
        V value = values[r];
        for (int lanes = 1; lanes < kWarpSize; lanes *= 2) value = Combine::of(value, shuffle_xor(value, lanes));
        if (lane_of_warp() == 0) *reinterpret_cast<V*>(&shared.exchange[warp][r]) = value;
    }
    block_barrier();
SC_UNROLL
    for (int r = 0; r < kPlainQueries; ++r) {
        values[r] = *reinterpret_cast<const V*>(&shared.exchange[0][r]);
        for (int w = 1; w < kPlainWarps; ++w) values[r] = Combine::of(values[r], *reinterpret_cast<const V*>(&shared.exchange[w][r]));
    }
}

// One block's work on `count` queries from `first` on. Weights are -1 where a key is not seen or not kept.
template <class T>
struct PlainPrefill {
    const PrefillArgs& a;
    PlainShared& shared;
    float* const weights;  // [positions, kPlainQueries]; a position is a key of one of the tiles
    const HeadPlace at;
    const int first, count;
    const bool repairs;  // only the output is missing
    const KeyTiles tiles;
    PerQuery<float> total;
    PerQuery<int> seen;

    SC_DEVICE PlainPrefill(const PrefillArgs& args, PlainShared& memory, int head, int first_query, int queries, bool repair)
        : a(args), shared(memory), weights(args.scratch + block_x() * args.scratch_stride), at(head_place(args, head)),
          first(first_query), count(queries), repairs(repair), tiles(key_tiles(args, at, first_query, queries)) {}

    SC_DEVICE int positions() const { return tiles.count * kStripKeys; }
    SC_DEVICE int key_at(int position) const {
        return first_key_of(a, tiles, position / kStripKeys) + position % kStripKeys;
    }
    SC_DEVICE float& weight(int position, int r) const { return weights[static_cast<std::int64_t>(position) * kPlainQueries + r]; }
    SC_DEVICE std::int64_t row_of(int r) const { return static_cast<std::int64_t>(at.index) * a.queries + first + r; }
    SC_DEVICE bool counted(int r) const { return r < count && is_counted(a, at.batch, first + r); }
    SC_DEVICE bool sees(int r, int key) const {
        if (r >= count || key >= key_limit(a, first + r)) return false;
        return a.mask == nullptr || mask_of(a, at, first + r)[key * a.mask_key_stride] != 0;
    }

    template <class Body>
    SC_DEVICE void for_own_positions(Body&& body) const {
SC_ROLLED
        for (int p = static_cast<int>(thread_x()); p < positions(); p += kPlainThreads) body(p);
    }

    SC_DEVICE void load_queries() {
        block_barrier();
        const T* q = head_of<T>(a.q, at.batch, at.head);
        for (int i = static_cast<int>(thread_x()); i < a.width * kPlainQueries; i += kPlainThreads) {
            const int r = i % kPlainQueries, column = i / kPlainQueries;
            const float x = r < count ? to_float(q[(first + r) * a.q.token_stride + column * a.q.column_stride]) : 0.0f;
            shared.q[column][r] = a.negative ? -x : x;
        }
        block_barrier();
    }

    // Products with the keys, and the largest ones.
    SC_DEVICE void multiply_keys(PerQuery<float>& largest) {
        const T* keys = head_of<T>(a.k, at.batch, at.key_head);
        for (float& x : largest) x = -INFINITY;
        for_own_positions([&](int p) {
            const int key = key_at(p);
            PerQuery<float> sums = {};
            for (int d = 0; d < a.width && key < a.keys; ++d) {
                const float x = to_float(keys[key * a.k.token_stride + d * a.k.column_stride]);
SC_UNROLL
                for (int r = 0; r < kPlainQueries; ++r) sums[r] = fmaf(shared.q[d][r], x, sums[r]);
            }
SC_UNROLL
            for (int r = 0; r < kPlainQueries; ++r) {
                weight(p, r) = sums[r];
                if (sees(r, key)) largest[r] = fmaxf(largest[r], sums[r]);
            }
        });
        combine_block<LargerOf>(shared, largest);
    }

    // Products become weights. Where probabilities are NaN all of them are alike: 0, and the total makes the output NaN.
    SC_DEVICE void weigh_keys(const PerQuery<float>& largest) {
SC_UNROLL
        for (int r = 0; r < kPlainQueries; ++r) total[r] = 0.0f, seen[r] = 0;
        for_own_positions([&](int p) {
            const int key = key_at(p);
SC_UNROLL
            for (int r = 0; r < kPlainQueries; ++r) {
                const bool sees_it = sees(r, key);
                const float w = exp2_fast(fmaf(weight(p, r), a.slope, -exponent_base(largest[r], a.slope)));
                weight(p, r) = sees_it ? w : -1.0f;
                total[r] += sees_it ? w : 0.0f;
                seen[r] += sees_it ? 1 : 0;
            }
        });
        combine_block<SumOf>(shared, total);
        combine_block<SumOf>(shared, seen);
        bool nan = false;
SC_UNROLL
        for (int r = 0; r < kPlainQueries; ++r) {
            if (seen[r] > 0 && total[r] == 0.0f) total[r] = NAN;
            nan |= total[r] != total[r];
        }
        if (!nan) return;
        for_own_positions([&](int p) {
SC_UNROLL
            for (int r = 0; r < kPlainQueries; ++r) {
                if (total[r] != total[r] && !(weight(p, r) < 0.0f)) weight(p, r) = 0.0f;
            }
        });
    }

    SC_DEVICE void add_to_tokens() {
        PerQuery<float> unit;
SC_UNROLL
        for (int r = 0; r < kPlainQueries; ++r) unit[r] = counted(r) && total[r] > 0.0f ? kScoreUnits / total[r] : 0.0f;
        for_own_positions([&](int p) {
            std::uint64_t units = 0;
SC_UNROLL
            for (int r = 0; r < kPlainQueries; ++r) units += static_cast<std::uint64_t>(rintf(fmaxf(weight(p, r), 0.0f) * unit[r]));
            if (units != 0) atomic_add(&a.token_scores[static_cast<std::int64_t>(at.index) * a.keys + key_at(p)], units);
        });
    }

    // Larger than the bound, or equal to it and at a position below `last`. Weights compare as their bits.
    SC_DEVICE static bool reaches(float w, int position, int bound, int last) {
        const auto bits = static_cast<int>(float_bits(w));
        return bits > bound || (bits == bound && position < last);
    }
    SC_DEVICE void count_reaching(const PerQuery<int>& bounds, const PerQuery<int>& last, PerQuery<int>& reaching) {
        for (int& n : reaching) n = 0;
        for_own_positions([&](int p) {
SC_UNROLL
            for (int r = 0; r < kPlainQueries; ++r) reaching[r] += reaches(weight(p, r), p, bounds[r], last[r]) ? 1 : 0;
        });
        combine_block<SumOf>(shared, reaching);
    }

    // Whether a search goes on for any query.
    SC_DEVICE static bool is_open(const PerQuery<int>& from, const PerQuery<int>& to) {
        bool open = false;
SC_UNROLL
        for (int r = 0; r < kPlainQueries; ++r) open |= to[r] - from[r] > 1;
        return open;
    }

    // Drops all but the value_keep part of the weights, the largest ones, of equal ones those in front.
    SC_DEVICE void choose_values() {
        PerQuery<int> keep, reaching, middle, low = {}, high, short_of = {}, last;
SC_UNROLL
        for (int r = 0; r < kPlainQueries; ++r) {
            const auto part = static_cast<int>(static_cast<double>(seen[r]) * a.value_keep + 1e-9);
            keep[r] = part < 1 ? (seen[r] > 0 ? 1 : 0) : part < seen[r] ? part : seen[r];
            high[r] = keep[r] == seen[r] ? 1 : 0x40000000;  // no weight reaches 2
            last[r] = positions();
        }
        // Enough weights reach the bits `low`, too few the bits `high`; where the number is right the search ends.
        while (is_open(low, high)) {
SC_UNROLL
            for (int r = 0; r < kPlainQueries; ++r) middle[r] = low[r] + (high[r] - low[r]) / 2;
            count_reaching(middle, last, reaching);
SC_UNROLL
            for (int r = 0; r < kPlainQueries; ++r) {
                (reaching[r] >= keep[r] ? low[r] : high[r]) = middle[r];
                if (reaching[r] == keep[r]) high[r] = low[r] + 1;
            }
        }
        // Those equal to `low` are taken up to a position: up to `last` there are enough, up to `short_of` too few.
        count_reaching(low, last, reaching);
SC_UNROLL
        for (int r = 0; r < kPlainQueries; ++r) short_of[r] = reaching[r] == keep[r] ? last[r] - 1 : 0;
        while (is_open(short_of, last)) {
SC_UNROLL
            for (int r = 0; r < kPlainQueries; ++r) middle[r] = short_of[r] + (last[r] - short_of[r]) / 2;
            count_reaching(low, middle, reaching);
SC_UNROLL
            for (int r = 0; r < kPlainQueries; ++r) {
                if (last[r] - short_of[r] > 1) (reaching[r] >= keep[r] ? last[r] : short_of[r]) = middle[r];
            }
        }
        for_own_positions([&](int p) {
SC_UNROLL
            for (int r = 0; r < kPlainQueries; ++r) {
                if (!reaches(weight(p, r), p, low[r], last[r])) weight(p, r) = -1.0f;
            }
        });
    }

    SC_DEVICE void mark_used() {
        for_own_positions([&](int p) {
            bool any = false;
SC_UNROLL
            for (int r = 0; r < kPlainQueries; ++r) any |= counted(r) && !(weight(p, r) < 0.0f);
            if (any) a.used[static_cast<std::int64_t>(at.index) * a.keys + key_at(p)] = 1;
        });
    }

    // Sums of 32 columns from `column` on over the keys of a warp, every fourth one; a value meets only weights above zero.
    SC_DEVICE void add_values(int column, PerQuery<float>& sums) {
        const T* values = head_of<T>(a.v, at.batch, at.key_head);
        const int warp = static_cast<int>(thread_x()) / kWarpSize, own = column + lane_of_warp();
        for (int chunk = 0; chunk < positions(); chunk += kPlainThreads) {
            const int p = chunk + static_cast<int>(thread_x());
            block_barrier();
SC_UNROLL
            for (int r = 0; r < kPlainQueries; ++r) shared.weights[thread_x()][r] = p < positions() ? weight(p, r) : -1.0f;
            shared.keys[thread_x()] = p < positions() ? key_at(p) : a.keys;
            block_barrier();
            for (int i = warp; i < kPlainThreads && own < a.value_width; i += kPlainWarps) {
                if (shared.keys[i] >= a.keys) continue;
                const float x = to_float(values[shared.keys[i] * a.v.token_stride + own * a.v.column_stride]);
SC_UNROLL
                for (int r = 0; r < kPlainQueries; ++r) {
                    if (shared.weights[i][r] > 0.0f) sums[r] = fmaf(shared.weights[i][r], x, sums[r]);
                }
            }
        }
    }

    SC_DEVICE void write_output() {
        std::uint64_t units = 0;
        for (int column = 0; column < a.value_width; column += kWarpSize) {
            PerQuery<float> sums = {};
            add_values(column, sums);
            const int warp = static_cast<int>(thread_x()) / kWarpSize;
SC_UNROLL
            for (int r = 0; r < kPlainQueries; ++r) shared.parts[warp][lane_of_warp()][r] = sums[r];
            block_barrier();
            for (int r = warp; r < count; r += kPlainWarps) {
                const int own = column + lane_of_warp();
                if (own >= a.value_width) continue;
                float sum = 0.0f;
                for (int w = 0; w < kPlainWarps; ++w) sum += shared.parts[w][lane_of_warp()][r];
                T* out = static_cast<T*>(a.out) + row_of(r) * a.value_width + own;
                store(out, shared.totals[r] == 0.0f ? 0.0f : sum / shared.totals[r]);
                if (counted(r)) units += head_units(to_float(*out));
            }
        }
        if (a.head_scores != nullptr) add_to_head(a, at, units);
    }

    SC_DEVICE void run() {
        PerQuery<float> largest;
        load_queries();
        multiply_keys(largest);
        weigh_keys(largest);
        if (!repairs) {
            if (a.token_scores != nullptr) add_to_tokens();
            if (a.value_keep < 1.0) choose_values();
            if (a.used != nullptr) mark_used();
        }
SC_UNROLL
        for (int r = 0; r < kPlainQueries; ++r) {
            if (thread_x() != static_cast<unsigned>(r) || r >= count) continue;
            shared.totals[r] = total[r];
            if (!repairs) a.lse[row_of(r)] = log_sum(largest[r], total[r], a.scale);
        }
        write_output();
    }
};

// Grid: x = at most scratch_blocks. Block: kPlainThreads. Without odd_count all queries, eight at a time; with it those that the list names.
template <class T>
SC_GLOBAL void SC_BOUNDS(kPlainThreads, 4) plain_prefill(PrefillArgs a) {
    auto& shared = shared_memory<PlainShared>();
    const bool repairs = a.odd_count != nullptr;
    const std::int64_t groups = (static_cast<std::int64_t>(a.queries) + kPlainQueries - 1) / kPlainQueries;
    const std::int64_t work = repairs ? *a.odd_count : groups * a.heads * a.batch;
    for (std::int64_t i = block_x(); i < work; i += grid_dim_x()) {
        const std::int64_t head = repairs ? a.odd_queries[i] / a.queries : i / groups;
        const auto first = static_cast<int>(repairs ? a.odd_queries[i] % a.queries : i % groups * kPlainQueries);
        const int count = repairs ? 1 : a.queries - first < kPlainQueries ? a.queries - first : kPlainQueries;
        PlainPrefill<T>(a, shared, static_cast<int>(head), first, count, repairs).run();
    }
}

}  // namespace sparsecore::cuda
