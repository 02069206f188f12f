// int8 weights in their stored form on AVX2: 16 rows are made dense in scratch as 16-bit pairs of neighbouring columns and met
// by all tokens. vpmaddwd adds two products of 16 bits in 32, which is exact; vpmaddubsw would saturate.
#pragma once

#include <cstdint>

#include "cpu/layout.h"

namespace sparsecore::cpu {

constexpr int64_t kPairRows = 16;
constexpr int kPairTokens = 6;  // 12 sums, two weights, one input

// sums [tokens][16] of panel [pairs][16 rows][2] and x [tokens][x_stride], both int16; 1 <= tokens <= kPairTokens.
void int8_pairs_avx2(const int16_t* panel, const int16_t* x, int64_t x_stride, int64_t tokens, int64_t pairs, int32_t* sums);

Layout int8_pairs_layout(formats::Kind kind);

}  // namespace sparsecore::cpu
