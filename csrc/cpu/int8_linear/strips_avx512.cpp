// Dense strips times quantised tokens with VNNI: up to 12 tokens x 2 strips of 16 rows in registers, four columns a step.
#include "cpu/int8_linear/output_avx512.h"
#include "cpu/int8_linear/strips.h"

namespace sparsecore::cpu {

namespace {

constexpr int kMaxTokens = 12;  // 24 sums, two weights, one input
constexpr int kMaxStrips = 2;
constexpr int64_t kGroupBytes = 64;

struct StripTile {
    const int8_t* panel;     // [windows][strips][16 groups][16][4]
    const int32_t* columns;  // first of each window
    int64_t windows;
    const uint8_t* x;
    int64_t x_stride;
    const int32_t* corrections;  // [strips][16]
    int32_t* sums;               // [strips][tokens][16]
};

template <int kTokens, int kStrips>
void run_tile(const StripTile& tile) {
    __m512i sums[kStrips][kTokens];
#pragma GCC unroll 2
    for (int s = 0; s < kStrips; ++s) {
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) sums[s][t] = _mm512_load_si512(tile.corrections + s * kStripOutputs);
    }
    const int8_t* weights = tile.panel;
    for (int64_t window = 0; window < tile.windows; ++window, weights += kStrips * kWindowBytes) {
        const uint8_t* x = tile.x + tile.columns[window];
#pragma GCC unroll 2
        for (int64_t group = 0; group < kWindowGroups; ++group) {
            __m512i weight[kStrips];
#pragma GCC unroll 2
            for (int s = 0; s < kStrips; ++s) {
                weight[s] = _mm512_load_si512(weights + s * kWindowBytes + group * kGroupBytes);
            }
#pragma GCC unroll 16
            for (int t = 0; t < kTokens; ++t) {
                int32_t four;
                __builtin_memcpy(&four, x + t * tile.x_stride + group * 4, 4);
                const __m512i input = _mm512_set1_epi32(four);
#pragma GCC unroll 2
                for (int s = 0; s < kStrips; ++s) sums[s][t] = _mm512_dpbusd_epi32(sums[s][t], input, weight[s]);
            }
        }
    }
#pragma GCC unroll 2
    for (int s = 0; s < kStrips; ++s) {
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) _mm512_store_si512(tile.sums + (s * kTokens + t) * kStripOutputs, sums[s][t]);
    }
}

using TileKernel = void (*)(const StripTile&);

TileKernel choose(int64_t tokens, int64_t strips) {
    static constexpr TileKernel two[kMaxTokens] = {
        run_tile<1, 2>, run_tile<2, 2>, run_tile<3, 2>, run_tile<4, 2>,  run_tile<5, 2>,  run_tile<6, 2>,
        run_tile<7, 2>, run_tile<8, 2>, run_tile<9, 2>, run_tile<10, 2>, run_tile<11, 2>, run_tile<12, 2>};
    static constexpr TileKernel one[kMaxTokens] = {
        run_tile<1, 1>, run_tile<2, 1>, run_tile<3, 1>, run_tile<4, 1>,  run_tile<5, 1>,  run_tile<6, 1>,
        run_tile<7, 1>, run_tile<8, 1>, run_tile<9, 1>, run_tile<10, 1>, run_tile<11, 1>, run_tile<12, 1>};
    return (strips == 2 ? two : one)[tokens - 1];
}

int64_t find_windows(const StripSource& source, int64_t strip, int64_t strips, int64_t cols, int32_t* columns) {
    if (source.windows != nullptr) return source.windows(source.weight, strip, strips, columns);
    const int64_t windows = strip_windows(cols);
    for (int64_t i = 0; i < windows; ++i) columns[i] = static_cast<int32_t>(i * 64);
    return windows;
}

// Makes the strips dense; a correction is -128 times the sum of a row, because inputs are q + 128.
void expand_panel(const StripSource& source, int64_t strip, int64_t strips, const int32_t* columns, int64_t windows,
                  int8_t* panel, int32_t* corrections) {
    const __m512i ones = _mm512_set1_epi8(1);
    for (int64_t s = 0; s < strips; ++s) {
        StripReader reader{source.weight, strip + s, {}};
        if (source.open != nullptr) source.open(reader);
        __m512i total = _mm512_setzero_si512();
        for (int64_t i = 0; i < windows; ++i) {
            int8_t* window = panel + (i * strips + s) * kWindowBytes;
            source.expand(reader, columns[i], window, 0);
#pragma GCC unroll 4
            for (int64_t group = 0; group < kWindowGroups; ++group) {
                total = _mm512_dpbusd_epi32(total, ones, _mm512_load_si512(window + group * kGroupBytes));
            }
        }
        const __m512i correction = _mm512_slli_epi32(_mm512_sub_epi32(_mm512_setzero_si512(), total), 7);
        _mm512_store_si512(corrections + s * kStripOutputs, correction);
    }
}

}  // namespace

void int8_strips_avx512(const LinearCall& call, const StripSource& source, const float* scales, const OffsetTokens& tokens,
                        int64_t strip_begin, int64_t strip_end, uint8_t* scratch) {
    const int64_t count = tokens.end - tokens.begin, tiles = (count + kMaxTokens - 1) / kMaxTokens;
    auto* columns = reinterpret_cast<int32_t*>(scratch + 2 * kWindowBytes * strip_windows(call.cols));
    alignas(64) int32_t corrections[kMaxStrips * kStripOutputs], sums[kMaxStrips * kMaxTokens * kStripOutputs];
    StripTile tile{};
    tile.panel = reinterpret_cast<const int8_t*>(scratch);
    tile.columns = columns;
    tile.x_stride = tokens.stride;
    tile.corrections = corrections;
    tile.sums = sums;
    for (int64_t strip = strip_begin, step = 0; strip < strip_end; strip += step) {
        step = source.panel_strips == 2 && strip_end - strip >= kMaxStrips ? kMaxStrips : 1;
        tile.windows = find_windows(source, strip, step, call.cols, columns);
        expand_panel(source, strip, step, columns, tile.windows, reinterpret_cast<int8_t*>(scratch), corrections);
        for (int64_t i = 0; i < tiles; ++i) {
            const int64_t first = i * count / tiles, size = (i + 1) * count / tiles - first;
            tile.x = tokens.values + first * tokens.stride;
            choose(size, step)(tile);
            for (int64_t s = 0; s < step; ++s) {
                const int64_t row = (strip + s) * kStripOutputs;
                for (int64_t t = 0; t < size; ++t) {
                    store_int8_sums(call, tokens.begin + first + t, row,
                                    _mm512_load_si512(sums + (s * size + t) * kStripOutputs), tokens.scales[first + t],
                                    scales + row);
                }
            }
        }
    }
}

}  // namespace sparsecore::cpu
