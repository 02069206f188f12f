// Integers of a head in blocks of 64 keys: [block][pair of dimensions][64 keys][2], so that one vector holds the same
// two dimensions of 16 keys and vpdpwssd adds 32 exact products at once. A block stays in the first-level cache while
// all queries of a tile pass. P V does the same with blocks of 128 values x 64 columns, 6 queries at a time in registers.
#include "cpu/attention/kernels.h"
#include "cpu/common/avx512.h"

namespace sparsecore::cpu {

namespace {

using core::DType;

constexpr float kInfinity = __builtin_inff();

// One token's elements as fp32 [padded to 32, zeros] in `row`.
template <DType kType>
void load_token(const AttentionProblem& p, const AttentionTensor& t, int64_t offset, int64_t width, int64_t padded,
                float* row) {
    if (t.column_stride == 1) {
        for (int64_t d = 0; d < padded; d += 16) {
            _mm512_store_ps(row + d, load_ps<kType>(t.data, offset + d, lanes16(width - d)));
        }
        return;
    }
    for (int64_t d = 0; d < padded; ++d) {
        row[d] = d < width ? core::load_float(t.data, offset + d * t.column_stride, p.dtype) : 0.0f;
    }
}

// Integers of the row, 16 bits each, into out [padded_width]; the scale is returned.
float quantise(const AttentionProblem& p, const float* row, int16_t* out) {
    const int64_t padded = padded_width(p);
    __m512i bits = _mm512_setzero_si512();
    for (int64_t d = 0; d < padded; d += 16) {
        // As integers, magnitudes compare as the numbers do, with NaN above infinity.
        const __m512i magnitude = _mm512_and_si512(_mm512_loadu_si512(row + d), _mm512_set1_epi32(0x7fffffff));
        bits = _mm512_max_epu32(bits, magnitude);
    }
    const float largest = core::bits_float(_mm512_reduce_max_epu32(bits));
    const int total_bits = p.msb_bits + p.lsb_bits;
    const Quantised scale = token_scale(largest, total_bits);
    const __m512i limit = _mm512_set1_epi32((1 << (total_bits - 1)) - 1);
    const __m512 divisor = _mm512_set1_ps(scale.scale);
    for (int64_t d = 0; d < padded; d += 16) {
        // Conversion rounds half to even.
        __m512i integer = _mm512_cvt_roundps_epi32(_mm512_div_ps(_mm512_loadu_ps(row + d), divisor),
                                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        integer = _mm512_max_epi32(_mm512_min_epi32(integer, limit), _mm512_sub_epi32(_mm512_setzero_si512(), limit));
        const __m256i narrow = scale.finite ? _mm512_cvtepi32_epi16(integer) : _mm256_setzero_si256();
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + d), narrow);
    }
    return scale.scale;
}

// rows [16 keys, padded_width] -> block [pairs][64 keys][2], keys first .. first + 15 of the block.
void interleave(const AttentionProblem& p, const int16_t* rows, int16_t* block, int64_t first) {
    const int64_t padded = padded_width(p);
    for (int64_t d = 0; d < padded; d += 32) {
        __m512 pairs[16];
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) pairs[i] = _mm512_castsi512_ps(_mm512_loadu_si512(rows + i * padded + d));
        transpose16(pairs);
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) {
            _mm512_store_ps(reinterpret_cast<float*>(block + ((d / 2 + i) * kKeyBlock + first) * 2), pairs[i]);
        }
    }
}

void high_parts(const AttentionProblem& p, const int16_t* whole, int16_t* high) {
    const __m512i keep = _mm512_set1_epi16(static_cast<short>(-(1 << p.lsb_bits)));
    const __m512i middle = _mm512_set1_epi16(static_cast<short>(1 << (p.lsb_bits - 1)));
    for (int64_t i = 0; i < kKeyBlock * padded_width(p); i += 32) {
        const __m512i kept = _mm512_and_si512(_mm512_loadu_si512(whole + i), keep);
        _mm512_storeu_si512(high + i, _mm512_add_epi16(kept, middle));
    }
}

template <DType kType>
void prepare_typed(const AttentionProblem& p, const AttentionKeys& keys, const AttentionScratch& scratch, int64_t head,
                   int64_t block) {
    const int64_t padded = padded_width(p), base = head * padded_keys(p) + block * kKeyBlock;
    int16_t* whole = keys.whole + base * padded;
    auto* rows = reinterpret_cast<int16_t*>(scratch.row + padded);  // 16 rows of half the size of floats
    for (int64_t group = 0; group < kKeyBlock; group += 16) {
        for (int64_t i = 0; i < 16; ++i) {
            const int64_t key = block * kKeyBlock + group + i;
            if (key < p.keys) {
                load_token<kType>(p, p.k, token_offset(p, p.k, head, key), p.width, padded, scratch.row);
                keys.scales[base + group + i] = quantise(p, scratch.row, rows + i * padded);
            } else {
                for (int64_t d = 0; d < padded; ++d) rows[i * padded + d] = 0;
                keys.scales[base + group + i] = 0.0f;
            }
        }
        interleave(p, rows, whole, group);
    }
    if (p.lsb_bits > 0) high_parts(p, whole, keys.high + base * padded);
    for (int64_t key = block * kKeyBlock; key < p.keys && key < (block + 1) * kKeyBlock; ++key) {
        float* value = keys.values + (head * p.keys + key) * p.value_width;
        const int64_t offset = token_offset(p, p.v, head, key);
        if (p.v.column_stride == 1) {
            for (int64_t d = 0; d < p.value_width; d += 16) {
                const __mmask16 mask = lanes16(p.value_width - d);
                _mm512_mask_storeu_ps(value + d, mask, load_ps<kType>(p.v.data, offset + d, mask));
            }
        } else {
            for (int64_t d = 0; d < p.value_width; ++d) {
                value[d] = core::load_float(p.v.data, offset + d * p.v.column_stride, p.dtype);
            }
        }
    }
}

// Scores of kQueries queries against kVectors * 16 keys of one block.
template <int kQueries, int kVectors>
void score_block(const AttentionProblem& p, const int16_t* block, const float* key_scales, const int16_t* const* queries,
                 const float* factors, float* const* scores) {
    __m512i sum[kQueries][kVectors];
#pragma GCC unroll 4
    for (int i = 0; i < kQueries; ++i) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) sum[i][v] = _mm512_setzero_si512();
    }
    const int64_t pairs = (p.width + 1) / 2;
    for (int64_t d = 0; d < pairs; ++d) {
        __m512i key[kVectors];
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) key[v] = _mm512_load_si512(block + (d * kKeyBlock + 16 * v) * 2);
#pragma GCC unroll 4
        for (int i = 0; i < kQueries; ++i) {
            int32_t pair;
            __builtin_memcpy(&pair, queries[i] + 2 * d, 4);
            const __m512i query = _mm512_set1_epi32(pair);
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) sum[i][v] = _mm512_dpwssd_epi32(sum[i][v], query, key[v]);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < kQueries; ++i) {
        const __m512 factor = _mm512_set1_ps(factors[i]);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
            const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sum[i][v]), factor);
            _mm512_store_ps(scores[i] + 16 * v, _mm512_mul_ps(scaled, _mm512_load_ps(key_scales + 16 * v)));
        }
    }
}

// Scores of the listed queries of the tile against all keys.
void score(const AttentionProblem& p, const int16_t* integers, const float* key_scales, const AttentionScratch& scratch,
           const int* list, int count) {
    const int64_t padded = padded_width(p), row = padded_keys(p);
    for (int64_t first = 0; first < p.keys; first += kKeyBlock) {
        const int16_t* block = integers + first * padded;
        const int64_t left = p.keys - first;
        for (int n = 0; n < count;) {
            const int step = count - n >= 4 ? 4 : 1;
            const int16_t* queries[4];
            float factors[4];
            float* scores[4];
            for (int i = 0; i < step; ++i) {
                queries[i] = scratch.queries + list[n + i] * padded;
                factors[i] = scratch.query_scales[list[n + i]] * p.scale;
                scores[i] = scratch.scores + list[n + i] * row + first;
            }
            if (left > 48) {
                const auto kernel = step == 4 ? score_block<4, 4> : score_block<1, 4>;
                kernel(p, block, key_scales + first, queries, factors, scores);
            } else {
                const auto kernel = step == 4 ? score_block<4, 1> : score_block<1, 1>;
                for (int64_t v = 0; v * 16 < left; ++v) {
                    kernel(p, block + 32 * v, key_scales + first + 16 * v, queries, factors, scores);
                    for (int i = 0; i < step; ++i) scores[i] += 16;
                }
            }
            n += step;
        }
    }
}

// Lanes of keys first .. first + 15 that the query may attend to.
__mmask16 attended(const AttentionProblem& p, const uint8_t* mask, int64_t first) {
    const __mmask16 inside = lanes16(p.keys - first);
    if (mask == nullptr) return inside;
    if (p.mask.column_stride == 1) {
        const __m128i bytes = _mm_maskz_loadu_epi8(inside, mask + first);
        return _mm_test_epi8_mask(bytes, bytes);
    }
    unsigned lanes = 0;
    for (int i = 0; i < 16 && (inside >> i & 1) != 0; ++i) {
        lanes |= static_cast<unsigned>(mask[(first + i) * p.mask.column_stride] != 0) << i;
    }
    return static_cast<__mmask16>(lanes);
}

// Scores -> probabilities in place (zero up to the padding); the largest is returned, 2 if there is nothing to attend.
float softmax_row(const AttentionProblem& p, const uint8_t* mask, float* row) {
    __m512 largest = _mm512_set1_ps(-kInfinity);
    unsigned any = 0;
    for (int64_t j = 0; j < p.keys; j += 16) {
        const __mmask16 lanes = attended(p, mask, j);
        any |= lanes;
        largest = _mm512_mask_max_ps(largest, lanes, largest, _mm512_load_ps(row + j));
    }
    const __m512 top = _mm512_set1_ps(_mm512_reduce_max_ps(largest));
    __m512 total = _mm512_setzero_ps();
    for (int64_t j = 0; j < padded_keys(p); j += 16) {
        const __mmask16 lanes = attended(p, mask, j);
        const __m512 shifted = _mm512_maskz_sub_ps(lanes, _mm512_load_ps(row + j), top);
        const __m512 power = _mm512_maskz_mov_ps(lanes, exp_ps(shifted));
        total = _mm512_add_ps(total, power);
        _mm512_store_ps(row + j, power);
    }
    if (any == 0) return 2.0f;
    const float inverse = 1.0f / _mm512_reduce_add_ps(total);
    for (int64_t j = 0; j < p.keys; j += 16) {
        // Masked again: a NaN total must not reach the keys that the query does not see.
        const __mmask16 lanes = attended(p, mask, j);
        _mm512_store_ps(row + j, _mm512_maskz_mul_ps(lanes, _mm512_load_ps(row + j), _mm512_set1_ps(inverse)));
    }
    return inverse;
}

// Adds keys [begin, end) to the sums of kQueries queries, kVectors * 16 columns from `column` on; the first keys start
// the sums.
template <int kQueries, int kVectors>
void multiply_values(const AttentionProblem& p, const float* values, int64_t begin, int64_t end, const float* rows,
                     int64_t column, float* sums) {
    const int64_t stride = padded_keys(p), sum_stride = padded_values(p);
    __mmask16 lanes[kVectors];
    __m512 sum[kQueries][kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
        lanes[v] = lanes16(p.value_width - column - 16 * v);
#pragma GCC unroll 6
        for (int i = 0; i < kQueries; ++i) {
            sum[i][v] = begin == 0 ? _mm512_setzero_ps() : _mm512_load_ps(sums + i * sum_stride + column + 16 * v);
        }
    }
    const float* value = values + begin * p.value_width + column;
    for (int64_t j = begin; j < end; ++j, value += p.value_width) {
        __m512 part[kVectors];
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) part[v] = _mm512_maskz_loadu_ps(lanes[v], value + 16 * v);
#pragma GCC unroll 6
        for (int i = 0; i < kQueries; ++i) {
            const __m512 probability = _mm512_set1_ps(rows[i * stride + j]);
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) sum[i][v] = _mm512_fmadd_ps(probability, part[v], sum[i][v]);
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < kQueries; ++i) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) _mm512_store_ps(sums + i * sum_stride + column + 16 * v, sum[i][v]);
    }
}

// One block of keys and columns, which stays in the first-level cache, for all queries of the tile.
template <int kVectors>
void multiply_tile(const AttentionProblem& p, const float* values, int64_t begin, int64_t end, const float* rows,
                   int64_t count, int64_t column, float* sums) {
    const int64_t stride = padded_keys(p), sum_stride = padded_values(p);
    int64_t i = 0;
    for (; i + 6 <= count; i += 6) {
        multiply_values<6, kVectors>(p, values, begin, end, rows + i * stride, column, sums + i * sum_stride);
    }
    for (; i + 2 <= count; i += 2) {
        multiply_values<2, kVectors>(p, values, begin, end, rows + i * stride, column, sums + i * sum_stride);
    }
    if (i < count) multiply_values<1, kVectors>(p, values, begin, end, rows + i * stride, column, sums + i * sum_stride);
}

// P V of the tile into sums [count, padded_values].
void multiply(const AttentionProblem& p, const float* values, const float* rows, int64_t count, float* sums) {
    constexpr int64_t kKeys = 128;
    for (int64_t column = 0; column < p.value_width;) {
        const int64_t left = p.value_width - column, vectors = left > 32 ? 4 : left > 16 ? 2 : 1;
        const auto kernel = vectors == 4 ? multiply_tile<4> : vectors == 2 ? multiply_tile<2> : multiply_tile<1>;
        int64_t begin = 0;
        do {  // also once without keys: the sums become zero
            const int64_t end = begin + kKeys < p.keys ? begin + kKeys : p.keys;
            kernel(p, values, begin, end, rows, count, column, sums);
            begin += kKeys;
        } while (begin < p.keys);
        column += 16 * vectors;
    }
}

template <DType kType>
void store_row(const AttentionProblem& p, int64_t head, int64_t query, const float* sums) {
    const int64_t first = token_offset(p, p.out, head, query);
    for (int64_t d = 0; d < p.value_width; d += 16) {
        const int64_t left = p.value_width - d;
        if (p.out.column_stride == 1) {
            store_ps<kType>(p.out.data, first + d, lanes16(left), _mm512_load_ps(sums + d));
            continue;
        }
        for (int64_t e = d; e < p.value_width && e < d + 16; ++e) {
            core::store_float(p.out.data, first + e * p.out.column_stride, kType, sums[e]);
        }
    }
}

void column_sums(const AttentionProblem& p, const float* rows, int64_t count, float* sums) {
    for (int64_t j = 0; j < p.keys; j += 16) {
        __m512 sum = _mm512_setzero_ps();
        for (int64_t i = 0; i < count; ++i) sum = _mm512_add_ps(sum, _mm512_load_ps(rows + i * padded_keys(p) + j));
        _mm512_store_ps(sums + j, sum);
    }
}

// Both passes over the scores; afterwards scratch.scores holds the probabilities of the tile.
void probabilities(const AttentionProblem& p, const AttentionKeys& keys, const AttentionScratch& scratch, int64_t head,
                   int64_t first, int count) {
    const int64_t integers = head * padded_keys(p) * padded_width(p);
    const float* key_scales = keys.scales + head * padded_keys(p);
    int list[32], again = 0;
    for (int i = 0; i < count; ++i) list[i] = i;
    score(p, keys.high + integers, key_scales, scratch, list, count);
    auto soften = [&](int i) {
        const auto* masks = static_cast<const uint8_t*>(p.mask.data);
        const uint8_t* mask = masks == nullptr ? nullptr : masks + token_offset(p, p.mask, head, first + i);
        return softmax_row(p, mask, scratch.scores + i * padded_keys(p));
    };
    for (int i = 0; i < count; ++i) {
        const float largest = soften(i);
        const bool needs = p.lsb_bits > 0 && largest < p.threshold && largest <= 1.5f;
        static_cast<uint8_t*>(p.needs.data)[token_offset(p, p.needs, head, first + i)] = needs;
        if (needs) list[again++] = i;
    }
    score(p, keys.whole + integers, key_scales, scratch, list, again);
    for (int i = 0; i < again; ++i) soften(list[i]);
}

template <DType kType>
void run_typed(const AttentionProblem& p, const AttentionKeys& keys, const AttentionScratch& scratch, int64_t head,
               int64_t tile) {
    const int64_t first = tile * query_tile(p), left = p.queries - first;
    const int count = static_cast<int>(left < query_tile(p) ? left : query_tile(p));
    const int64_t padded = padded_width(p);
    for (int i = 0; i < count; ++i) {
        load_token<kType>(p, p.q, token_offset(p, p.q, head, first + i), p.width, padded, scratch.row);
        scratch.query_scales[i] = quantise(p, scratch.row, scratch.queries + i * padded);
    }
    probabilities(p, keys, scratch, head, first, count);
    const float* values = keys.values + head * p.keys * p.value_width;
    multiply(p, values, scratch.scores, count, scratch.sums);
    for (int i = 0; i < count; ++i) store_row<kType>(p, head, first + i, scratch.sums + i * padded_values(p));
    column_sums(p, scratch.scores, count, keys.tile_sums + (head * query_tiles(p) + tile) * padded_keys(p));
}

void prepare(const AttentionProblem& p, const AttentionKeys& keys, const AttentionScratch& scratch, int64_t head,
             int64_t block) {
    switch (p.dtype) {
        case DType::F32: prepare_typed<DType::F32>(p, keys, scratch, head, block); return;
        case DType::F16: prepare_typed<DType::F16>(p, keys, scratch, head, block); return;
        default: prepare_typed<DType::BF16>(p, keys, scratch, head, block); return;
    }
}

void run(const AttentionProblem& p, const AttentionKeys& keys, const AttentionScratch& scratch, int64_t head,
         int64_t tile) {
    switch (p.dtype) {
        case DType::F32: run_typed<DType::F32>(p, keys, scratch, head, tile); return;
        case DType::F16: run_typed<DType::F16>(p, keys, scratch, head, tile); return;
        default: run_typed<DType::BF16>(p, keys, scratch, head, tile); return;
    }
}

}  // namespace

AttentionKernels attention_avx512() { return {prepare, run}; }

}  // namespace sparsecore::cpu
