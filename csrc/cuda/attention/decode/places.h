// Which work is a block's, which rows a sequence reads and where they lie.
//
// The host cannot look at indices that are on the device. Slots, selected rows and pages are therefore clamped into the
// sequence, the store and the pool: a wrong one gives a wrong result, and never an access outside of them.
#pragma once

#include "cuda/attention/decode/args.h"
#include "cuda/ptx/warp.h"

namespace sparsecore::cuda::decode {

SC_DEVICE int lane_index() { return static_cast<int>(thread_x() % kWarpSize); }
SC_DEVICE int warp_index() { return static_cast<int>(thread_x() / kWarpSize); }

SC_DEVICE std::int64_t clamp(std::int64_t value, std::int64_t low, std::int64_t high) {
    return value < low ? low : value > high ? high : value;
}

// A block of a one-dimensional grid: a split of a sequence's rows for a chunk of the query heads of one key head.
struct Item {
    std::int64_t batch, kv_head, head;  // head: the first query head
    int queries, split;
};

SC_DEVICE Item item_of(const Args& a) {
    std::int64_t place = block_x();
    Item item;
    item.split = static_cast<int>(place % a.splits);
    place /= a.splits;
    const int first = static_cast<int>(place % a.chunks) * kQueries;
    place /= a.chunks;
    item.kv_head = place % a.kv_heads;
    item.batch = place / a.kv_heads;
    item.head = item.kv_head * a.group + first;
    item.queries = a.group - first < kQueries ? a.group - first : kQueries;
    return item;
}

SC_DEVICE bool kept(const Args& a, std::int64_t batch, std::int64_t head) {
    return a.kept == nullptr || a.kept[batch * a.kept_batch_stride + head * a.kept_head_stride] != 0;
}

// The rows that a sequence reads: slots first, first + 1, ... or, with a list, those in it.
struct Rows {
    std::int64_t first = 0, end = 0;  // of the sequence
    int count = 0;
    const std::int64_t* list = nullptr;
    std::int64_t stride = 0;

    SC_DEVICE std::int64_t slot(int i) const {
        return list == nullptr ? first + i : clamp(list[i * stride], first, end - 1);
    }
};

SC_DEVICE Rows rows_of(const Args& a, std::int64_t batch) {
    Rows rows;
    rows.first = clamp(a.starts[batch * a.start_stride], 0, a.slots);
    const std::int64_t length = clamp(a.lengths[batch * a.length_stride], 0, a.slots - rows.first);
    rows.end = rows.first + length;
    rows.count = static_cast<int>(length);
    if (a.rows == nullptr) return rows;
    rows.list = a.rows + batch * a.rows_batch_stride;
    rows.stride = a.rows_stride;
    const std::int64_t listed = a.row_counts == nullptr ? a.most_rows : a.row_counts[batch * a.row_count_stride];
    rows.count = length == 0 ? 0 : static_cast<int>(clamp(listed, 0, a.most_rows));
    return rows;
}

constexpr int kSplitUnit = 128;  // rows that all warps take at once

SC_DEVICE int rows_of_a_split(const Args& a, int count) {
    const int units = (count + kSplitUnit - 1) / kSplitUnit;
    return (units + a.splits - 1) / a.splits * kSplitUnit;
}
// Splits that have rows; the others are the last ones.
SC_DEVICE int used_splits(const Args& a, int count) {
    const int rows = rows_of_a_split(a, count);
    return rows == 0 ? 0 : (count + rows - 1) / rows;
}

// One sequence's rows of one key head.
struct Place {
    std::int64_t owner = 0, row = 0;
};

// False: the slot's page is none of the pool.
SC_DEVICE bool find_place(const Paging& paging, std::int64_t batch, std::int64_t slot, Place& place) {
    place = {batch, slot};
    if (paging.table == nullptr) return true;
    const std::int64_t entry = slot >> paging.page_bits;
    place.owner = paging.table[batch * paging.batch_stride + entry * paging.entry_stride];
    place.row = slot & ((std::int64_t{1} << paging.page_bits) - 1);
    return place.owner >= 0 && place.owner < paging.pages;
}

SC_DEVICE Place place_of(const Args& a, std::int64_t batch, std::int64_t slot) {
    Place place;
    if (!find_place(a.paging, batch, slot, place)) place.owner = 0;
    return place;
}

SC_DEVICE std::uint8_t* row_of(const Part& part, const Place& place, std::int64_t kv_head) {
    return part.data + place.owner * part.owner_stride + kv_head * part.head_stride + place.row * part.row_stride;
}

}  // namespace sparsecore::cuda::decode
