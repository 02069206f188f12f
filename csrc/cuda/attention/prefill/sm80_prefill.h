// Attention of many queries on tensor cores (sm_80 and later), with sums of probabilities for every key.
//
// A block has 64 queries of a head, a warp 16 of them. Tiles of 64 keys or values pass through a ring of two in shared
// memory: while one is multiplied the next is on its way. Probabilities stay in registers, where the product with the keys leaves
// them just as that with the values takes them.
//
// Scores of tokens are sums of final probabilities, and a query's total is known only behind its last key: where they are
// asked for, a first sweep over the keys finds largest and total, and a second one multiplies again and has the probabilities. That is
// 1.5 times the products and twice the exponentials. Otherwise one sweep corrects its sums whenever the largest grows.
//
// Floor: Lq * Lk * (D + Dv) products a head at the rate of the tensor cores (A100: 1024 a clock and SM). At D = 128 a warp reads 36 KB
// of fragments from shared memory for the 256 clocks of its products with a tile, at 128 bytes a clock 1.1 times as long: shared memory
// is the limit, at 0.89 of the floor. Filling the ring takes 32 bytes a clock and SM from L2.
// Sums over queries are integers, added in shared memory and once for each block and key in global memory: the same bits on every run.
#pragma once

#include "cuda/attention/prefill/output.h"
#include "cuda/ptx/async_copy.h"
#include "cuda/ptx/matrix.h"

namespace sparsecore::cuda {

constexpr int kSm80PrefillWarps = 4, kSm80PrefillThreads = kSm80PrefillWarps * kWarpSize;
constexpr int kSm80PrefillQueries = kSm80PrefillWarps * kStripQueries;

// kWidth: columns of a tile, 32 to 256; narrower heads are filled up with zeros.
template <int kWidth>
struct Sm80PrefillShared {
    std::uint16_t q[kSm80PrefillQueries][kWidth];
    std::uint16_t ring[2][kStripKeys][kWidth];
    std::int32_t tokens[kStripKeys];
};

// Where a row's 16-byte unit lies: lanes that load a column of units meet all banks.
template <int kWidth>
SC_DEVICE int unit_place(int row, int unit) {
    static_assert(kWidth == 32 || kWidth % 64 == 0);
    return (kWidth == 32 ? unit ^ row / 2 % 4 : unit / 8 * 8 + (unit % 8 ^ row % 8)) * 8;
}

// Queues copies of tokens [first, first + kTokens) of a head, zeros where there is no token or column.
template <int kTokens, int kWidth>
SC_DEVICE void fetch_tokens(const PrefillTensor& t, const std::uint16_t* head, int first, int tokens, int width,
                            std::uint16_t (&tile)[kTokens][kWidth]) {
    constexpr int kUnits = kWidth / 8;
    for (int i = static_cast<int>(thread_x()); i < kTokens * kUnits; i += kSm80PrefillThreads) {
        const int row = i / kUnits, column = i % kUnits * 8, left = first + row < tokens ? width - column : 0;
        const int elements = left < 0 ? 0 : left < 8 ? left : 8;
        std::uint16_t* to = &tile[row][unit_place<kWidth>(row, i % kUnits)];
        const std::uint16_t* from = elements > 0 ? head + (first + row) * t.token_stride + column * t.column_stride : head;
        if (t.in_units) {
            copy_async_16(to, from, elements * 2);
        } else {
            for (int e = 0; e < 8; ++e) to[e] = e < elements ? from[e * t.column_stride] : std::uint16_t{0};
        }
    }
}

// One block's work; every thread has one.
template <class T, int kWidth>
struct Sm80Prefill {
    using Shared = Sm80PrefillShared<kWidth>;

    const PrefillArgs& a;
    Shared& shared;
    const HeadPlace at;
    const int block_query, warp_query;  // the first ones
    const KeyTiles tiles;
    int step = 0;
    StripRows rows;
    std::uint32_t weights[kStripKeys / 16][4];
    float sums[kWidth / 8][4] = {};

    SC_DEVICE Sm80Prefill(const PrefillArgs& args, Shared& memory, int head, int first_query)
        : a(args), shared(memory), at(head_place(args, head)), block_query(first_query),
          warp_query(first_query + warp() * kStripQueries), tiles(key_tiles(args, at, first_query, kSm80PrefillQueries)),
          rows(start_rows(args, at, warp_query)) {}

    SC_DEVICE static int warp() { return static_cast<int>(thread_x()) / kWarpSize; }
    SC_DEVICE bool twice() const { return a.token_scores != nullptr; }
    SC_DEVICE int first_sweep() const { return twice() ? tiles.count : 0; }

    // A step of the first sweep takes a tile of keys, those of the second one a tile of keys and one of values in turn.
    SC_DEVICE void fetch(int wanted) {
        if (wanted < first_sweep() + 2 * tiles.count) {
            const int behind = wanted - first_sweep();
            const bool values = behind >= 0 && behind % 2 == 1;
            const int key = first_key_of(a, tiles, behind < 0 ? wanted : behind / 2);
            const PrefillTensor& t = values ? a.v : a.k;
            fetch_tokens(t, head_of<std::uint16_t>(t, at.batch, at.key_head), key, a.keys,
                                   values ? a.value_width : a.width, shared.ring[wanted % 2]);
        }
        commit_copies();
    }

    // The next tile, which is there for all threads; all are done with the one before, so its place is filled.
    SC_DEVICE const std::uint16_t (&next_tile())[kStripKeys][kWidth] {
        wait_copies<0>();
        block_barrier();
        fetch(step + 1);
        return shared.ring[step++ % 2];
    }

    SC_DEVICE void multiply_keys(const std::uint16_t (&keys)[kStripKeys][kWidth], StripScores& s) {
        const int lane = lane_of_warp(), row = warp() * kStripQueries + lane % 16;
        const std::uint32_t sign = a.negative ? 0x80008000u : 0u;
SC_UNROLL
        for (int i = 0; i < kStripTiles * 4; ++i) s[i / 4][i % 4] = 0.0f;
        for (int column = 0; column < kWidth; column += 16) {
            std::uint32_t q[4];
            load_matrix_x4(q, &shared.q[row][unit_place<kWidth>(row, column / 8 + lane / 16)]);
SC_UNROLL
            for (int w = 0; w < 4; ++w) q[w] ^= sign;
SC_UNROLL
            for (int j = 0; j < kStripTiles; j += 2) {
                const int key = (j + lane / 16) * 8 + lane % 8;
                std::uint32_t b[4];
                load_matrix_x4(b, &keys[key][unit_place<kWidth>(key, column / 8 + lane / 8 % 2)]);
                multiply<T>(s[j], q, {b[0], b[1]});
                multiply<T>(s[j + 1], q, {b[2], b[3]});
            }
        }
    }

    SC_DEVICE void multiply_values(const std::uint16_t (&values)[kStripKeys][kWidth]) {
        const int lane = lane_of_warp();
SC_UNROLL
        for (int keys = 0; keys < kStripKeys / 16; ++keys) {
            const int key = keys * 16 + lane % 16;
SC_UNROLL
            for (int j = 0; j < kWidth / 8; j += 2) {
                std::uint32_t b[4];
                load_matrix_x4_transposed(b, &values[key][unit_place<kWidth>(key, j + lane / 16)]);
                multiply<T>(sums[j], weights[keys], {b[0], b[1]});
                multiply<T>(sums[j + 1], weights[keys], {b[2], b[3]});
            }
        }
    }

    SC_DEVICE void shrink_sums(const float (&shrink)[2]) {
        if (ballot(shrink[0] != 1.0f || shrink[1] != 1.0f) == 0) return;
SC_UNROLL
        for (int i = 0; i < kWidth / 8 * 4; ++i) sums[i / 4][i % 4] *= shrink[i % 4 / 2];
    }

    // Takes a tile of keys; in the last sweep its weights are left in `weights`. False if the warp's queries see none of them.
    template <bool kLastSweep>
    SC_DEVICE bool attend(int tile) {
        const auto& keys = next_tile();
        const int first = first_key_of(a, tiles, tile);
        const bool final = kLastSweep && twice();  // largest and total are known
        std::uint64_t seen[2];
        see_keys(a, at, rows, warp_query, first, seen);
        if (!final) note_seen(a, at, rows, first, seen);
        if (ballot((seen[0] | seen[1]) != 0) == 0) return false;
        StripScores s;
        multiply_keys(keys, s);
        hide_unseen(s, seen);
        float shrink[2], more[2];
        if (!final) raise_largest(rows, s, a.slope, shrink);
        weigh(rows, s, a.slope, more);
        if (final) {
            add_token_scores(rows, s, shared.tokens);
        } else {
            rows.total[0] += more[0];
            rows.total[1] += more[1];
        }
        if (kLastSweep && !final) shrink_sums(shrink);
        if (kLastSweep) pack_weights<T>(s, weights);
        return true;
    }

    // Moves the tokens' scores of a tile to global memory; behind a barrier that no thread passes before it has added its own.
    SC_DEVICE void flush_tokens(int tile) {
        const auto i = static_cast<int>(thread_x());
        if (i >= kStripKeys) return;
        const std::int32_t units = shared.tokens[i];
        const int key = first_key_of(a, tiles, tile) + i;
        shared.tokens[i] = 0;
        if (key >= a.keys || units == 0) return;
        atomic_add(&a.token_scores[static_cast<std::int64_t>(at.index) * a.keys + key], static_cast<std::uint64_t>(units));
    }

    SC_DEVICE void run() {
        block_barrier();  // the tiles of the work before are not read any more
        if (thread_x() < kStripKeys) shared.tokens[thread_x()] = 0;
        fetch_tokens(a.q, head_of<std::uint16_t>(a.q, at.batch, at.head), block_query, a.queries, a.width, shared.q);
        fetch(0);
        for (int tile = 0; tile < first_sweep(); ++tile) attend<false>(tile);
        if (twice()) settle_rows(rows);
        for (int tile = 0; tile < tiles.count; ++tile) {
            const bool any = attend<true>(tile);
            const auto& values = next_tile();
            if (twice()) flush_tokens(tile);
            if (any) multiply_values(values);
        }
        if (!twice()) settle_rows(rows);
        write_rows<T>(a, at, warp_query, rows, sums);
        wait_copies<0>();
    }
};

// Grid: x = any number of blocks, for blocks of queries of all heads; the last ones of a head, which see most where causal, come
// first. Block: kSm80PrefillThreads.
template <class T, int kWidth>
SC_GLOBAL void SC_BOUNDS(kSm80PrefillThreads, kWidth == 32 ? 3 : 2) sm80_prefill(PrefillArgs a) {
    using Work = Sm80Prefill<T, kWidth>;
    auto& shared = shared_memory<Sm80PrefillShared<kWidth>>();
    const std::int64_t blocks = (static_cast<std::int64_t>(a.queries) + kSm80PrefillQueries - 1) / kSm80PrefillQueries;
    for (std::int64_t i = block_x(); i < blocks * a.heads * a.batch; i += grid_dim_x()) {
        const auto first = static_cast<int>((blocks - 1 - i % blocks) * kSm80PrefillQueries);
        Work(a, shared, static_cast<int>(i / blocks), first).run();
    }
}

}  // namespace sparsecore::cuda
