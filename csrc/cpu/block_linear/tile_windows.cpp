// Expands the bands layout for AMX. Its steps are groups of a strip already (4 bytes of one output), so that expanding
// copies them, up to 16 outputs a vector, to their place among the windows.
#include "cpu/block_linear/tile_windows.h"

#include <immintrin.h>

namespace sparsecore::cpu {

namespace {

constexpr int64_t kGroupBytes = 4;

// Neighbouring rows of a strip that lie in one band of one block row.
struct Segment {
    int64_t begin, end;       // blocks of the block row
    int64_t first, in_block;  // rows of the block: where the band begins, where the segment does
    int64_t lane, count;      // rows of the strip
};

// body(number, segment) for each, from above.
template <class Body>
void for_segments(const BlockWeight& w, int64_t strip, Body&& body) {
    const int64_t top = strip * kStripOutputs, bottom = top + kStripOutputs < w.rows ? top + kStripOutputs : w.rows;
    int number = 0;
    for (int64_t row = top, next = row; row < bottom; row = next) {
        const int64_t block_row = row / w.block_rows, in_block = row % w.block_rows;
        const int64_t first = in_block / kBandRows * kBandRows;
        const int64_t rest = first + band_height(w.block_rows, first) - in_block;
        next = bottom - row < rest ? bottom : row + rest;
        body(number++, Segment{w.row_offsets[block_row], w.row_offsets[block_row + 1], first, in_block, row - top, next - row});
    }
}

// The part of block `block` that lies in the window at `column`.
void copy_block(const BlockWeight& w, const Segment& s, int64_t block, int64_t column, int64_t inputs, uint8_t* out) {
    const int64_t height = band_height(w.block_rows, s.first), left = w.columns[block] * w.block_cols;
    const int64_t right = left + w.block_cols, window_end = column + kWindowGroups * inputs;
    const int64_t begin = left < column ? column : left, end = right < window_end ? right : window_end;
    const int64_t band = band_index(w, s.begin, s.end, s.first) + (block - s.begin) * height * w.block_cols;
    const auto* values = static_cast<const uint8_t*>(w.values) +
                         ((band + (begin - left) * height) / inputs + s.in_block - s.first) * kGroupBytes;
    const auto mask = static_cast<__mmask16>((1u << s.count) - 1u);
    uint8_t* to = out + ((begin - column) / inputs * kStripOutputs + s.lane) * kGroupBytes;
    for (int64_t k = begin; k < end; k += inputs, values += height * kGroupBytes, to += kStripOutputs * kGroupBytes) {
        _mm512_mask_storeu_epi32(to, mask, _mm512_maskz_loadu_epi32(mask, values));
    }
}

template <int64_t kInputs>
void expand(StripReader& reader, int64_t column, void* out) {
    const auto& w = *static_cast<const BlockWeight*>(reader.weight);
    auto* bytes = static_cast<uint8_t*>(out);
    for (int64_t i = 0; i < kWindowGroups; ++i) _mm512_store_si512(bytes + i * 64, _mm512_setzero_si512());
    for_segments(w, reader.strip, [&](int number, const Segment& segment) {
        int64_t& block = reader.places[number];
        for (; block < segment.end; ++block) {
            const int64_t left = w.columns[block] * w.block_cols, right = left + w.block_cols;
            if (left >= column + kWindowGroups * kInputs) return;
            if (right > column) copy_block(w, segment, block, column, kInputs, bytes);
            if (right > column + kWindowGroups * kInputs) return;  // the rest of the block is for the next window
        }
    });
}

}  // namespace

void open_block_strip(StripReader& reader) {
    const auto& w = *static_cast<const BlockWeight*>(reader.weight);
    for_segments(w, reader.strip, [&](int number, const Segment& segment) { reader.places[number] = segment.begin; });
}

void expand_block_pairs_avx512(StripReader& reader, int64_t column, void* out, int64_t) { expand<2>(reader, column, out); }

int64_t block_windows(const BlockWeight& w, int64_t strip, int64_t strips, int64_t width, int32_t* columns) {
    const int64_t top = strip * kStripOutputs, below = (strip + strips) * kStripOutputs;
    const int64_t first = top / w.block_rows, last = ((below < w.rows ? below : w.rows) - 1) / w.block_rows;
    int64_t next[kMostBlockRows], count = 0;
    for (int64_t row = first; row <= last; ++row) next[row - first] = w.row_offsets[row];
    for (int64_t window = 0;; ++window) {
        int64_t nearest = INT64_MAX;  // of the windows from `window` on in which a block row keeps something
        for (int64_t row = first; row <= last; ++row) {
            int64_t& block = next[row - first];
            const int64_t end = w.row_offsets[row + 1];
            while (block < end && (w.columns[block] + int64_t{1}) * w.block_cols <= window * width) ++block;
            if (block == end) continue;
            const int64_t begin = w.columns[block] * w.block_cols / width, here = begin < window ? window : begin;
            nearest = here < nearest ? here : nearest;
        }
        if (nearest == INT64_MAX || nearest * width >= w.cols) return count;  // a block may end past the last column
        columns[count++] = static_cast<int32_t>(nearest * width);
        window = nearest;
    }
}

}  // namespace sparsecore::cpu
