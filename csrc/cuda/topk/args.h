// What the launches of top-k take, in plain data; strides are in elements, pointers are device memory.
#pragma once

#include <cstdint>

namespace sparsecore::cuda {

// One row: its first n elements count, and k of them are wanted.
struct TopkArgs {
    const void* x;
    std::int64_t row_stride;     // elements of a row are neighbours
    std::int64_t rows, n;
    std::int64_t k;              // of a row, or the most of any where `keep` is given
    const std::int64_t* counts;  // [rows]: n of each row, or null: all have the same
    const std::int64_t* keep;    // [rows]: k of each row, with counts; columns of the result beyond it become 0
    std::int64_t counts_stride, keep_stride;
    void* values;           // [rows, k] of the element type without gaps, or null: not asked for
    std::int64_t* indices;  // [rows, k] without gaps, or null
    void* threshold;        // [rows]: the k-th largest value alone, or null
};

// One launch by one warp a row where that holds it; else by one block a row, or by several for a piece of it each, whose
// finds a second launch puts together; else by counting digits in several launches.
enum class TopkMethod { Warp, Block, Pieces, Radix };

struct TopkPlan {
    TopkMethod method;
    std::int64_t pieces, piece_length;  // of a row, where it is cut up (Pieces, Radix)
    std::int64_t group_rows;            // Radix: rows that use the workspace at a time
    std::int64_t workspace_bytes;
};

constexpr int kWarpItems = 32, kWarpRow = 32 * kWarpItems;  // elements of a lane, and of a row at most

// Blocks keep candidates in shared memory, a number for each thread: what fits beside a second block on an SM for keys of 4
// bytes, and in the 99 KB of sm_89 for those of 8. Rows come in tiles.
constexpr int kTopkThreads = 512, kTileItems = 8;
constexpr int candidate_items(std::int64_t key_bytes) { return key_bytes == 4 ? 16 : 14; }

constexpr int kRadixThreads = 256, kRadixWarps = kRadixThreads / 32;
constexpr int kDigitBits = 11, kBins = 1 << kDigitBits;
constexpr int digits_of_key(int bits) { return (bits + kDigitBits - 1) / kDigitBits; }
// Of the workspace, for a row: a histogram and a search for each digit, and a tally for each warp's segment of a chunk.
constexpr std::int64_t kHistogramBytes = kBins * 8, kSearchBytes = 24, kTallyBytes = 8;
constexpr std::int64_t radix_row_bytes(std::int64_t digits, std::int64_t chunks) {
    return digits * (kHistogramBytes + kSearchBytes) + chunks * kRadixWarps * kTallyBytes;
}

}  // namespace sparsecore::cuda
