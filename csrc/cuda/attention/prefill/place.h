// Where a block of queries lies, and which keys it meets.
#pragma once

#include "cuda/attention/prefill/args.h"
#include "cuda/ptx/thread.h"

namespace sparsecore::cuda {

struct HeadPlace {
    int batch, head, key_head, index;  // index = batch * heads + head
};

SC_DEVICE HeadPlace head_place(const PrefillArgs& a, int index) {
    const int head = index % a.heads;
    return {index / a.heads, head, head / (a.heads / a.key_heads), index};
}

template <class T>
SC_DEVICE const T* head_of(const PrefillTensor& t, std::int64_t batch, std::int64_t head) {
    return static_cast<const T*>(t.data) + batch * t.batch_stride + head * t.head_stride;
}

// The query may see the keys below it, if a mask and a list do not forbid more.
SC_DEVICE int key_limit(const PrefillArgs& a, int query) {
    if (query >= a.queries) return 0;
    if (!a.causal) return a.keys;
    const std::int64_t limit = static_cast<std::int64_t>(query) + 1 + a.keys - a.queries;
    return limit < 0 ? 0 : limit < a.keys ? static_cast<int>(limit) : a.keys;
}

SC_DEVICE bool is_counted(const PrefillArgs& a, std::int64_t batch, int query) {
    if (query >= a.queries) return false;
    return a.counted == nullptr || a.counted[batch * a.counted_batch_stride + query * a.counted_query_stride] != 0;
}

SC_DEVICE const std::uint8_t* mask_of(const PrefillArgs& a, const HeadPlace& at, int query) {
    return a.mask + at.batch * a.mask_batch_stride + at.head * a.mask_head_stride + query * a.mask_query_stride;
}

// The tiles of kStripKeys keys that some queries of a block meet, in ascending order.
struct KeyTiles {
    int count;
    const std::int32_t* blocks;  // null: the first `count` tiles
};

SC_DEVICE int key_blocks(const PrefillArgs& a) { return (a.keys - 1) / a.lists.key_block + 1; }

// How many of the listed blocks, which ascend, begin below a key.
SC_DEVICE int blocks_below(const std::int32_t* blocks, int count, std::int64_t key_block, int key) {
    int few = 0, many = count;
    while (few < many) {
        const int middle = few + (many - few) / 2;
        if (blocks[middle] * key_block < key) {
            few = middle + 1;
        } else {
            many = middle;
        }
    }
    return few;
}

SC_DEVICE KeyTiles key_tiles(const PrefillArgs& a, const HeadPlace& at, int first_query, int queries) {
    const PrefillLists& lists = a.lists;
    const int limit = key_limit(a, a.queries - first_query < queries ? a.queries - 1 : first_query + queries - 1);
    if (lists.offsets == nullptr) return {(limit + kStripKeys - 1) / kStripKeys, nullptr};
    const std::int64_t* row =
        lists.offsets + at.batch * lists.batch_stride + at.head * lists.head_stride + first_query / lists.query_block;
    const std::int64_t begin = row[0] < 0 ? 0 : row[0] < lists.count ? row[0] : lists.count;
    const std::int64_t end = row[1] < begin ? begin : row[1] < lists.count ? row[1] : lists.count;
    const std::int32_t* blocks = lists.indices + begin;
    auto listed = static_cast<int>(end - begin < key_blocks(a) ? end - begin : key_blocks(a));
    if (a.causal) listed = blocks_below(blocks, listed, lists.key_block, limit);
    return {listed * (lists.key_block / kStripKeys), blocks};
}

SC_DEVICE int first_key_of(const PrefillArgs& a, const KeyTiles& tiles, int tile) {
    if (tiles.blocks == nullptr) return tile * kStripKeys;
    const int tiles_a_block = a.lists.key_block / kStripKeys, most = key_blocks(a) - 1;
    const std::int32_t block = tiles.blocks[tile / tiles_a_block];
    const int inside = block < 0 ? 0 : block < most ? block : most;  // whatever a list says, it stays inside
    return (inside * tiles_a_block + tile % tiles_a_block) * kStripKeys;
}

}  // namespace sparsecore::cuda
