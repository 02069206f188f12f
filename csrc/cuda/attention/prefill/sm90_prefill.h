// Attention of many queries on Hopper (sm_90a), with sums of probabilities for every key.
//
// A block has 128 queries of a head: one warpgroup of producers, of which a thread keeps a ring of tiles filled by TMA, and two of
// consumers with 64 queries each. A tile is 128 keys or values, as two parts of 64 that may lie apart, because lists name blocks of 64.
// Scores come from wgmma with both operands in shared memory; the weights stay in registers, as operand A of the product with the
// values, which is read as it lies. That product runs on while the next tile's scores are queued behind it, and while one warpgroup
// computes exponentials the other one's products have the tensor cores.
//
// One or two sweeps, as in sm80_prefill.h. Floor: Lq * Lk * (D + Dv) products a head at 2048 a clock and SM. At D = 128 operands take 96
// and 64 bytes of shared memory a clock, filling the ring 32 at half of the time: 112 of the 128 that there are. Exponentials are 16 a clock and SM,
// half of a tile's time at D = 128 and all of it at D = 64, behind the other warpgroup's products.
#pragma once

#include "cuda/attention/prefill/output.h"
#include "cuda/ptx/tma.h"
#include "cuda/ptx/wgmma_transposed.h"

namespace sparsecore::cuda {

constexpr int kSm90PrefillQueries = 128, kSm90PrefillThreads = 3 * 128, kSm90PrefillConsumers = 2 * 128;
constexpr int kSm90PrefillParts = 2, kSm90PrefillKeys = kSm90PrefillParts * kStripKeys;
constexpr int kSm90PrefillStages = 4, kSm90PrefillBarrier = 1;

// kWidth: 64 or 128 columns, in blocks of 64 with rows of 128 bytes.
template <int kWidth>
struct Sm90PrefillShared {
    std::uint16_t q[kWidth / 64][kSm90PrefillQueries][64];
    std::uint16_t ring[kSm90PrefillStages][kWidth / 64][kSm90PrefillKeys][64];
    std::int32_t tokens[2][kSm90PrefillKeys];
    MBarrier q_full, full[kSm90PrefillStages], empty[kSm90PrefillStages];
};

// The same for producers and consumers: which tiles the ring brings, in which order.
struct Sm90PrefillSteps {
    KeyTiles parts;
    int tiles, first_sweep;

    SC_DEVICE Sm90PrefillSteps(const PrefillArgs& a, const HeadPlace& at, int first_query)
        : parts(key_tiles(a, at, first_query, kSm90PrefillQueries)), tiles((parts.count + kSm90PrefillParts - 1) / kSm90PrefillParts),
          first_sweep(a.token_scores == nullptr ? 0 : tiles) {}
    SC_DEVICE int count() const { return first_sweep + 2 * tiles; }
    SC_DEVICE bool is_values(int step) const { return step >= first_sweep && (step - first_sweep) % 2 == 1; }
    SC_DEVICE int tile_of(int step) const { return step < first_sweep ? step : (step - first_sweep) / 2; }
    // A last tile may have one part: the other one is filled with it too, and not seen.
    SC_DEVICE bool has_part(int tile, int part) const { return tile * kSm90PrefillParts + part < parts.count; }
    SC_DEVICE int first_key(const PrefillArgs& a, int tile, int part) const {
        return first_key_of(a, parts, tile * kSm90PrefillParts + (has_part(tile, part) ? part : 0));
    }
};

template <int kWidth>
SC_DEVICE void produce_tiles(const PrefillArgs& a, const HeadPlace& at, int first_query, const TensorMap* q, const TensorMap* k,
                             const TensorMap* v, Sm90PrefillShared<kWidth>& shared) {
    give_registers<24>();
    if (thread_x() % 128 != 0) return;
    const Sm90PrefillSteps steps(a, at, first_query);
    arrive_expecting(&shared.q_full, sizeof shared.q);
    for (int i = 0; i < kWidth / 64 * 2; ++i) {
        copy_tile(shared.q[i / 2][i % 2 * 64], q, i / 2 * 64, first_query + i % 2 * 64, at.head, at.batch, &shared.q_full);
    }
    for (int step = 0; step < steps.count(); ++step) {
        const int stage = step % kSm90PrefillStages, round = step / kSm90PrefillStages;
        if (round > 0) wait_phase(&shared.empty[stage], (round - 1) % 2);
        arrive_expecting(&shared.full[stage], sizeof shared.ring[stage]);
        for (int i = 0; i < kWidth / 64 * kSm90PrefillParts; ++i) {
            const int block = i / kSm90PrefillParts, part = i % kSm90PrefillParts;
            const int key = steps.first_key(a, steps.tile_of(step), part);
            copy_tile(shared.ring[stage][block][part * kStripKeys], steps.is_values(step) ? v : k, block * 64, key, at.key_head,
                      at.batch, &shared.full[stage]);
        }
    }
}

// One warpgroup's work on 64 queries; every thread has one.
template <class T, int kWidth>
struct Sm90PrefillConsumer {
    const PrefillArgs& a;
    Sm90PrefillShared<kWidth>& shared;
    const HeadPlace at;
    const int group, warp_query;
    const Sm90PrefillSteps steps;
    int step = 0, unfreed = 0;  // the next step, and the first one whose stage was not given back
    StripRows rows;
    std::uint32_t weights[kSm90PrefillKeys / 16][4];
    float sums[kWidth / 2] = {};

    SC_DEVICE Sm90PrefillConsumer(const PrefillArgs& args, Sm90PrefillShared<kWidth>& memory, const HeadPlace& place, int first_query)
        : a(args), shared(memory), at(place), group(static_cast<int>(thread_x()) / 128 - 1),
          warp_query(first_query + (static_cast<int>(thread_x()) / kWarpSize - 4) * kStripQueries), steps(args, place, first_query),
          rows(start_rows(args, place, warp_query)) {}

    SC_DEVICE bool twice() const { return a.token_scores != nullptr; }

    SC_DEVICE int next_stage() {
        const int stage = step % kSm90PrefillStages;
        wait_phase(&shared.full[stage], step / kSm90PrefillStages % 2);
        ++step;
        return stage;
    }

    // Behind the wait for products: gives back the stages of all steps so far.
    SC_DEVICE void free_stages() {
        for (; unfreed < step; ++unfreed) {
            if (thread_x() % kWarpSize == 0) arrive(&shared.empty[unfreed % kSm90PrefillStages]);
        }
    }

    // Scores of a tile; in the last sweep products with values are under way, and done behind it as well.
    template <bool kLastSweep>
    SC_DEVICE void multiply_keys(float (&s)[kSm90PrefillKeys / 2]) {
        const int stage = next_stage();
        fence_accumulators();
SC_UNROLL
        for (int column = 0; column < kWidth; column += 16) {
            const TileDescriptor q = tile_descriptor(&shared.q[column / 64][group * 64][column % 64]);
            const TileDescriptor keys = tile_descriptor(&shared.ring[stage][column / 64][0][column % 64]);
            if (column == 0) {
                start_product_async<T>(s, q, keys);
            } else {
                multiply_async<T, kSm90PrefillKeys>(s, q, keys);
            }
        }
        commit_products();
        wait_products<0>(s);
        if (kLastSweep) wait_products<0>(sums);
        free_stages();
    }

    SC_DEVICE void multiply_values() {
        const int stage = next_stage();
        fence_accumulators();
SC_UNROLL
        for (int i = 0; i < kSm90PrefillKeys / 16; ++i) {
            multiply_rows_async<T, kWidth>(sums, weights[i], rows_descriptor(&shared.ring[stage][0][i * 16][0], sizeof shared.ring[stage][0]));
        }
        commit_products();
    }

    SC_DEVICE void shrink_sums(const float (&shrink)[2]) {
        if (ballot(shrink[0] != 1.0f || shrink[1] != 1.0f) == 0) return;
SC_UNROLL
        for (int i = 0; i < kWidth / 2; ++i) sums[i] *= shrink[i % 4 / 2];
    }

    // Takes a tile of keys; in the last sweep its weights are left in `weights`.
    template <bool kLastSweep>
    SC_DEVICE void attend(int tile) {
        const bool final = kLastSweep && twice();  // largest and total are known
        StripScores s[kSm90PrefillParts];
        multiply_keys<kLastSweep>(reinterpret_cast<float(&)[kSm90PrefillKeys / 2]>(s));
SC_UNROLL
        for (int part = 0; part < kSm90PrefillParts; ++part) {
            const int first = steps.first_key(a, tile, part);
            std::uint64_t seen[2] = {0, 0};
            if (steps.has_part(tile, part)) see_keys(a, at, rows, warp_query, first, seen);
            if (!final && steps.has_part(tile, part)) note_seen(a, at, rows, first, seen);
            hide_unseen(s[part], seen);
        }
        float shrink[2] = {1.0f, 1.0f};
        if (!final) {
            float more[2];
            raise_largest(rows, s[0], a.slope, shrink);
            raise_largest(rows, s[1], a.slope, more);
            shrink[0] *= more[0];
            shrink[1] *= more[1];
        }
SC_UNROLL
        for (int part = 0; part < kSm90PrefillParts; ++part) {
            float more[2];
            weigh(rows, s[part], a.slope, more);
            if (final) {
                add_token_scores(rows, s[part], &shared.tokens[tile % 2][part * kStripKeys]);
            } else {
                rows.total[0] += more[0];
                rows.total[1] += more[1];
            }
            if (kLastSweep) pack_weights<T>(s[part], reinterpret_cast<std::uint32_t(&)[4][4]>(weights[part * 4]));
        }
        if (kLastSweep && !final) shrink_sums(shrink);
    }

    // Moves the tokens' scores of a tile to global memory. Those of the next tile are added elsewhere, and those behind it only
    // once all threads have passed the next barrier here.
    SC_DEVICE void flush_tokens(int tile) {
        named_barrier(kSm90PrefillBarrier, kSm90PrefillConsumers);
        const int i = static_cast<int>(thread_x()) - 128, part = i / kStripKeys;
        if (i >= kSm90PrefillKeys || !steps.has_part(tile, part)) return;
        const std::int32_t units = shared.tokens[tile % 2][i];
        const int key = steps.first_key(a, tile, part) + i % kStripKeys;
        shared.tokens[tile % 2][i] = 0;
        if (key >= a.keys || units == 0) return;
        atomic_add(&a.token_scores[static_cast<std::int64_t>(at.index) * a.keys + key], static_cast<std::uint64_t>(units));
    }

    SC_DEVICE void run() {
        take_registers<240>();
        wait_phase(&shared.q_full, 0);
        for (int tile = 0; tile < steps.first_sweep; ++tile) attend<false>(tile);
        if (twice()) settle_rows(rows);
        for (int tile = 0; tile < steps.tiles; ++tile) {
            attend<true>(tile);
            if (twice()) flush_tokens(tile);
            multiply_values();
        }
        wait_products<0>(sums);
        if (!twice()) settle_rows(rows);
        write_rows<T>(a, at, warp_query, rows, reinterpret_cast<const float(&)[kWidth / 8][4]>(sums));
    }
};

// Grid: x = blocks of 128 queries of all heads, the last ones of a head first. Block: kSm90PrefillThreads. The maps are those of q, k
// and v with boxes of 64 tokens; scale is not negative, lists are of blocks of 128 queries.
template <class T, int kWidth>
SC_GLOBAL void SC_BOUNDS(kSm90PrefillThreads, 1) sm90_prefill(PrefillArgs a, SC_TENSOR_MAP q, SC_TENSOR_MAP k, SC_TENSOR_MAP v) {
    auto& shared = shared_memory<Sm90PrefillShared<kWidth>>();
    if (thread_x() < 2 * kSm90PrefillKeys) shared.tokens[thread_x() / kSm90PrefillKeys][thread_x() % kSm90PrefillKeys] = 0;
    if (thread_x() == 0) {
        init_mbarrier(&shared.q_full, 1);
        for (int stage = 0; stage < kSm90PrefillStages; ++stage) {
            init_mbarrier(&shared.full[stage], 1);
            init_mbarrier(&shared.empty[stage], kSm90PrefillConsumers / kWarpSize);
        }
        fence_mbarrier_init();
    }
    block_barrier();
    const auto blocks = static_cast<unsigned>((a.queries - 1) / kSm90PrefillQueries + 1);
    const HeadPlace at = head_place(a, static_cast<int>(block_x() / blocks));
    const auto first = static_cast<int>(blocks - 1 - block_x() % blocks) * kSm90PrefillQueries;
    if (thread_x() < 128) return produce_tiles<kWidth>(a, at, first, &q, &k, &v, shared);
    Sm90PrefillConsumer<T, kWidth>(a, shared, at, first).run();
}

}  // namespace sparsecore::cuda
