// Moves the kept rows of every tensor of a store to its first slots, in place. A block has one tensor of one key head of one
// sequence and takes its rows in order, as many at a time as its threads hold in registers: all are read before one is written.
// Kept rows ascend, so a row comes from its slot or one behind it, and no later row is overwritten before it was read.
#pragma once

#include "cuda/attention/decode/bytes.h"
#include "cuda/attention/decode/places.h"
#include "cuda/attention/decode/store_args.h"

namespace sparsecore::cuda::decode {

constexpr int kUnitsOfThread = 4;

template <class Unit>
SC_DEVICE void move_rows(const CompactArgs& a, std::uint8_t* data, const Part& part, std::int64_t batch, std::int64_t count) {
    const std::int64_t units_of_row = part.bytes / static_cast<std::int64_t>(sizeof(Unit)), units = count * units_of_row;
    constexpr std::int64_t kAtOnce = kThreads * kUnitsOfThread;
    for (std::int64_t first = 0; first < units; first += kAtOnce) {
        Unit unit[kUnitsOfThread];
SC_UNROLL
        for (int u = 0; u < kUnitsOfThread; ++u) {
            const std::int64_t i = first + u * kThreads + thread_x();
            if (i >= units) continue;
            // An index that does not ascend gives wrong rows, inside of the store.
            const std::int64_t index = a.index[batch * a.index_batch_stride + i / units_of_row * a.index_stride];
            const std::uint8_t* from = data + clamp(index, 0, a.slots - 1) * part.row_stride;
            unit[u] = reinterpret_cast<const Unit*>(from)[i % units_of_row];
        }
        block_barrier();
SC_UNROLL
        for (int u = 0; u < kUnitsOfThread; ++u) {
            const std::int64_t i = first + u * kThreads + thread_x();
            if (i < units) reinterpret_cast<Unit*>(data + i / units_of_row * part.row_stride)[i % units_of_row] = unit[u];
        }
        block_barrier();
    }
}

// Grid: batch * kv_heads * parts. Block: kThreads.
static SC_GLOBAL void SC_BOUNDS(kThreads, 2) compact_kernel(CompactArgs a) {
    const std::int64_t place = block_x(), head = place / a.parts % a.kv_heads, batch = place / a.parts / a.kv_heads;
    const MovedPart& moved = a.moved[place % a.parts];
    std::uint8_t* data = moved.part.data + batch * moved.part.owner_stride + head * moved.part.head_stride;
    const std::int64_t count = clamp(a.counts[batch * a.count_stride], 0, a.most_rows);
    switch (moved.unit) {
        case 16: return move_rows<Words4>(a, data, moved.part, batch, count);
        case 4: return move_rows<std::uint32_t>(a, data, moved.part, batch, count);
        default: return move_rows<std::uint8_t>(a, data, moved.part, batch, count);
    }
}

}  // namespace sparsecore::cuda::decode
