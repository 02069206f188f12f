// Linear layers on AMX for any weight that has an expander (cpu/strip/strip.h).
#pragma once

#include <cstdint>

#include "cpu/common/linear_call.h"
#include "cpu/strip/strip.h"

namespace sparsecore::cpu {

// bf16. False, and nothing computed, where another kernel has to run: few tokens, or an x that is not finite everywhere
// (tiles multiply the zeros of pruned positions as well).
bool strip_linear_amx(const LinearCall& call, const StripSource& source);

// ---- between dispatch.cpp and the files of the instruction set ----

constexpr int64_t kTokenPair = 32;     // two tiles of tokens
constexpr int64_t kChunkWindows = 16;  // 32 KiB of weights for two strips

// Tokens whose activations stay in the second-level cache (2 MiB in every processor with AMX so far) beside the sums.
static inline int64_t strip_token_block(int64_t row_bytes) {
    constexpr int64_t kCacheBytes = 1 << 20, kMost = 512;
    const int64_t tokens = row_bytes > 0 ? kCacheBytes / row_bytes / kTokenPair * kTokenPair : kMost;
    return tokens < kTokenPair ? kTokenPair : tokens < kMost ? tokens : kMost;
}

// All aligned to 64 bytes.
struct StripScratch {
    uint8_t* weights;  // kChunkWindows * 2 * kWindowBytes
    uint8_t* sums;     // 4 KiB for each pair of token tiles of a block
    uint8_t* x;        // a block of tokens, padded to whole windows; null where x is read in place
    int32_t* columns;  // a window each
};

// Of the calling thread, without x: for so many windows, bytes of a token and tokens of a call.
StripScratch reserve_strip_scratch(int64_t windows, int64_t row_bytes, int64_t tokens);

struct StripPart {
    int64_t token_begin, token_end, panel_begin, panel_end;
};

// bf16 activations with neighbouring columns in whole windows need no copy.
static inline bool strip_reads_in_place(const LinearCall& call) {
    return call.x_column_stride == 1 && call.cols % window_columns(2) == 0;
}

bool all_finite_bf16(const LinearCall& call, int64_t token_begin, int64_t token_end);
void strip_linear_amx_bf16(const LinearCall& call, const StripSource& source, const StripPart& part,
                           const StripScratch& scratch);

}  // namespace sparsecore::cpu
