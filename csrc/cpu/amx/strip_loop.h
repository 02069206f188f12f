// The loops around the tile instructions for any weight that can be read strip by strip. Two tiles of tokens meet two
// strips of outputs: four loads for four products, so that neither the loads nor the latency of the sums hold it up.
//
// Order: a block of tokens whose activations stay in the second-level cache; panels of 32 outputs; chunks of windows whose
// weights stay in the first-level cache while all pairs of token tiles pass; pairs; windows. The first pair of a chunk
// expands the weights one window ahead of the products, so that both run at once; the others find them expanded. A sum
// that spans several chunks waits in scratch memory as it is, so neither blocking nor threads change a bit of it.
//
// Included by AMX files only; everything is static.
#pragma once

#include <cstdint>

#include "cpu/amx/strip_linear.h"
#include "cpu/amx/tiles.h"
#include "cpu/strip/strip.h"

namespace sparsecore::cpu {

// Activations with neighbouring columns; every window can be read, up to its last column.
struct TileInput {
    const uint8_t* data;
    int64_t stride;  // bytes from token to token
};

struct Panel {
    const StripSource* source;
    StripReader readers[2];
    int strips;
    const int32_t* columns;  // of each window
    int64_t windows;
    int64_t first_row;
    uint8_t* weights;  // [windows of a chunk][2][kWindowBytes]
};

constexpr int64_t kWindowPair = 2 * kWindowBytes;

static inline void expand_windows(Panel& panel, int64_t window, uint8_t* out) {
    for (int s = 0; s < panel.strips; ++s) {
        panel.source->expand(panel.readers[s], panel.columns[window], out + s * kWindowBytes, kWindowPair);
    }
}

template <class Kernel, int kTokens, int kOutputs>
static inline void multiply_window(const uint8_t* x, int64_t stride, const uint8_t* weights) {
    tiles::load<tiles::kWeights>(weights, tiles::kRowBytes);
    tiles::load<tiles::kActivations>(x, stride);
    Kernel::template multiply<0, 0>();
    if constexpr (kTokens == 2) {
        tiles::load<tiles::kActivations + 1>(x + tiles::kRows * stride, stride);
        Kernel::template multiply<1, 0>();
    }
    if constexpr (kOutputs == 2) {
        tiles::load<tiles::kWeights + 1>(weights + kWindowBytes, tiles::kRowBytes);
        Kernel::template multiply<0, 1>();
        if constexpr (kTokens == 2) Kernel::template multiply<1, 1>();
    }
}

// Sums lie in memory as [32 tokens][32 outputs].
constexpr int64_t kSumStride = 2 * tiles::kRowBytes, kSumBytes = 2 * tiles::kRows * kSumStride;

template <int kTokens, int kOutputs>
static inline void load_sums(const uint8_t* sums) {
    tiles::load<0>(sums, kSumStride);
    if constexpr (kOutputs == 2) tiles::load<1>(sums + tiles::kRowBytes, kSumStride);
    if constexpr (kTokens == 2) tiles::load<2>(sums + tiles::kRows * kSumStride, kSumStride);
    if constexpr (kTokens == 2 && kOutputs == 2) {
        tiles::load<3>(sums + tiles::kRows * kSumStride + tiles::kRowBytes, kSumStride);
    }
}

template <int kTokens, int kOutputs>
static inline void store_sums(uint8_t* sums) {
    tiles::store<0>(sums, kSumStride);
    if constexpr (kOutputs == 2) tiles::store<1>(sums + tiles::kRowBytes, kSumStride);
    if constexpr (kTokens == 2) tiles::store<2>(sums + tiles::kRows * kSumStride, kSumStride);
    if constexpr (kTokens == 2 && kOutputs == 2) {
        tiles::store<3>(sums + tiles::kRows * kSumStride + tiles::kRowBytes, kSumStride);
    }
}

template <int kTokens, int kOutputs>
static inline void zero_sums() {
    tiles::zero<0>();
    if constexpr (kOutputs == 2) tiles::zero<1>();
    if constexpr (kTokens == 2) tiles::zero<2>();
    if constexpr (kTokens == 2 && kOutputs == 2) tiles::zero<3>();
}

// What one pair of token tiles does with one chunk of a panel.
struct ChunkPass {
    int64_t first, end;  // windows
    const uint8_t* x;    // of the pair's first token
    int64_t stride;
    uint8_t* sums;
    bool expand;         // the weights of the chunk are still compressed
    bool begin, resume;  // sums start at zero / wait in memory; neither: they are in the tiles
    bool keep;           // sums stay in the tiles
};

template <class Kernel, int kTokens, int kOutputs>
static void run_chunk(Panel& panel, const ChunkPass& pass) {
    if (pass.begin) zero_sums<kTokens, kOutputs>();
    if (pass.resume) load_sums<kTokens, kOutputs>(pass.sums);
    uint8_t* weights = panel.weights;
    int64_t expanded = pass.expand ? pass.first : pass.end;  // the next window to expand
    for (int64_t w = pass.first; w < pass.end; ++w, weights += kWindowPair) {
        while (expanded <= w + 1 && expanded < pass.end) {
            expand_windows(panel, expanded, weights + (expanded - w) * kWindowPair);
            expanded += panel.source->batch;
        }
        const uint8_t* x = pass.x + panel.columns[w] * Kernel::kItemSize;
        multiply_window<Kernel, kTokens, kOutputs>(x, pass.stride, weights);
    }
    if (!pass.keep) store_sums<kTokens, kOutputs>(pass.sums);
}

// Tile registers for so many tokens (1 to 32); the shape in use is not set again.
static inline void configure_tokens(int64_t tokens, int64_t& configured) {
    if (tokens == configured) return;
    configured = tokens;
    tiles::Config config;
    const auto set = [&config](int tile, int64_t rows) {
        config.rows[tile] = static_cast<uint8_t>(rows);
        config.row_bytes[tile] = rows > 0 ? static_cast<uint16_t>(tiles::kRowBytes) : uint16_t{0};
    };
    for (int i = 0; i < 2; ++i) {
        const int64_t left = tokens - i * tiles::kRows;
        const int64_t rows = left < 0 ? 0 : left < tiles::kRows ? left : tiles::kRows;
        set(2 * i, rows);
        set(2 * i + 1, rows);
        set(tiles::kActivations + i, rows);
        set(tiles::kWeights + i, tiles::kRows);
    }
    tiles::configure(config);
}

template <class Kernel>
static void run_pass(Panel& panel, int64_t tokens, const ChunkPass& pass) {
    if (tokens > tiles::kRows) {
        panel.strips == 2 ? run_chunk<Kernel, 2, 2>(panel, pass) : run_chunk<Kernel, 2, 1>(panel, pass);
    } else {
        panel.strips == 2 ? run_chunk<Kernel, 1, 2>(panel, pass) : run_chunk<Kernel, 1, 1>(panel, pass);
    }
}

// One panel for a block of tokens, from the first window to the outputs.
template <class Kernel, class Call>
static void run_panel(const Call& call, Panel& panel, const TileInput& input, int64_t token, int64_t count,
                      uint8_t* sums, int64_t& configured) {
    const int64_t pairs = (count + kTokenPair - 1) / kTokenPair;
    for (int64_t first = 0;; first += kChunkWindows) {
        const bool last = first + kChunkWindows >= panel.windows;
        for (int64_t p = 0; p < pairs; ++p) {
            const int64_t left = count - p * kTokenPair, tokens = left < kTokenPair ? left : kTokenPair;
            configure_tokens(tokens, configured);
            ChunkPass pass{};
            pass.first = first;
            pass.end = last ? panel.windows : first + kChunkWindows;
            pass.x = input.data + p * kTokenPair * input.stride;
            pass.stride = input.stride;
            pass.sums = sums + p * kSumBytes;
            pass.expand = p == 0;
            pass.begin = first == 0;
            pass.resume = first > 0 && pairs > 1;
            pass.keep = !last && pairs == 1;
            run_pass<Kernel>(panel, tokens, pass);
            if (last) Kernel::finish(call, token + p * kTokenPair, tokens, panel.first_row, panel.strips, pass.sums);
        }
        if (last) return;
    }
}

// Tokens token .. token + count - 1, whose activations are `input`, and panels [panel_begin, panel_end).
template <class Kernel, class Call>
static void run_block(const Call& call, const StripSource& source, const TileInput& input, int64_t token, int64_t count,
                      int64_t panel_begin, int64_t panel_end, const StripScratch& scratch) {
    Panel panel{};
    panel.source = &source;
    panel.columns = scratch.columns;
    panel.weights = scratch.weights;
    panel.windows = (call.cols + window_columns(Kernel::kItemSize) - 1) / window_columns(Kernel::kItemSize);
    for (int64_t w = 0; w < panel.windows; ++w) {
        scratch.columns[w] = static_cast<int32_t>(w * window_columns(Kernel::kItemSize));
    }
    int64_t configured = 0;
    for (int64_t index = panel_begin; index < panel_end; ++index) {
        const int64_t strip = index * source.panel_strips, left = source.strips - strip;
        panel.strips = static_cast<int>(left < source.panel_strips ? left : source.panel_strips);
        panel.first_row = strip * kStripOutputs;
        for (int s = 0; s < panel.strips; ++s) {
            panel.readers[s].weight = source.weight;
            panel.readers[s].strip = strip + s;
            if (source.open != nullptr) source.open(panel.readers[s]);
        }
        if (source.windows != nullptr) panel.windows = source.windows(source.weight, strip, panel.strips, scratch.columns);
        run_panel<Kernel>(call, panel, input, token, count, scratch.sums, configured);
    }
    tiles::release();
}

}  // namespace sparsecore::cpu
