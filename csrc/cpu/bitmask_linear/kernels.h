// What dispatch.cpp calls, and the sizes of the scratch memory that it provides.
#pragma once

#include "cpu/bitmask_linear/bitmask_linear.h"

namespace sparsecore::cpu {

struct BitmaskPart {
    int64_t token_begin, token_end, row_begin, row_end;
};

// Tokens for which a row's columns are decoded once.
constexpr int64_t kBitmaskSuperTile = 4 * kPortableTile;

// activations: cols * kBitmaskSuperTile floats; values and columns: cols each.
struct PortableScratch {
    float* activations;
    float* values;
    int64_t* columns;
};
void bitmask_linear_portable(const LinearCall& call, const BitmaskWeight& weight, const BitmaskPart& part,
                             const PortableScratch& scratch);

constexpr int64_t kIndexedTokens = 64;  // largest token tile
constexpr int64_t kIndexedRows = 16;    // row_begin is a multiple of it

// activations: cols * kIndexedTokens floats, 64-byte aligned; values: cols floats; sums: kIndexedRows * kIndexedTokens.
struct IndexedScratch {
    float* activations;
    float* values;
    float* sums;
};
void bitmask_linear_avx512(const LinearCall& call, const BitmaskWeight& weight, const BitmaskPart& part,
                           const IndexedScratch& scratch);
// The same for at most kFewTokens tokens, all of them, from the bitmask; activations: kFewTokens rows of cols floats, each
// rounded up to 64.
void bitmask_linear_few_avx512(const LinearCall& call, const BitmaskWeight& weight, int64_t row_begin, int64_t row_end,
                               float* activations);

}  // namespace sparsecore::cpu
