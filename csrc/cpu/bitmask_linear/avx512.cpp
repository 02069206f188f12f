// Tokens are the lanes: each non-zero weight is broadcast and meets up to four vectors of a transposed activation tile,
// [columns][16 * kVectors]. The sums of 16 rows are then transposed back, so that bias, activation and the stores work on
// 16 outputs of one token.
//
// Floor: one load of activations a multiply-add, as no two rows share their columns; so a tile of one chunk stays in the
// first-level cache.
#include "cpu/bitmask_linear/kernels.h"
#include "cpu/common/avx512_output.h"

namespace sparsecore::cpu {

namespace {

using core::DType;

void prefetch(const char* address) { _mm_prefetch(address, _MM_HINT_T1); }

constexpr int kSets = 2;  // independent chains of additions; the same in every tile, so that all give the same bits

template <DType kType>
void pack_strided(const LinearCall& call, int64_t token, int64_t count, int64_t width, float* tile) {
    for (int64_t c = 0; c < call.cols; ++c) {
        for (int64_t t = 0; t < width; ++t) tile[c * width + t] = t < count ? load_x(call, token + t, c) : 0.0f;
    }
}

template <DType kType>
void pack_tile(const LinearCall& call, int64_t token, int64_t count, int64_t width, float* tile) {
    if (call.x_column_stride != 1) {
        pack_strided<kType>(call, token, count, width, tile);
        return;
    }
    for (int64_t t = 0; t < width; t += 16) {
        for (int64_t c = 0; c < call.cols; c += 16) {
            const __mmask16 mask = lanes16(call.cols - c);
            __m512 block[16];
#pragma GCC unroll 16
            for (int i = 0; i < 16; ++i) {
                const bool valid = t + i < count;
                const int64_t first = valid ? (token + t + i) * call.x_token_stride + c : 0;
                block[i] = load_ps<kType>(call.x, first, valid ? mask : static_cast<__mmask16>(0));
            }
            transpose16(block);
            float* out = tile + c * width + t;
            const int64_t columns = call.cols - c;
            const __mmask16 stored = lanes16(width);
            for (int i = 0; i < 16 && i < columns; ++i) _mm512_mask_storeu_ps(out + i * width, stored, block[i]);
        }
    }
}

template <int kVectors>
void multiply_add(__m512 (&sum)[kVectors], float value, const float* x) {
    const __m512 weight = _mm512_set1_ps(value);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[v] = _mm512_fmadd_ps(weight, _mm512_load_ps(x + 16 * v), sum[v]);
}

template <int kVectors>
void chunk_rows(const float* values, const uint8_t* columns, const uint8_t* counts, int64_t rows, const float* tile,
                   float* sums) {
    constexpr int64_t kWidth = 16 * kVectors;
    for (int64_t row = 0; row < rows; ++row, sums += kWidth) {
        __m512 sum[kSets][kVectors];
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
            sum[0][v] = _mm512_load_ps(sums + 16 * v);
            sum[1][v] = _mm512_setzero_ps();
        }
        const int64_t count = counts[row];
        int64_t i = 0;
        for (; i + kSets <= count; i += kSets) {
#pragma GCC unroll 2
            for (int s = 0; s < kSets; ++s) multiply_add(sum[s], values[i + s], tile + columns[i + s] * kWidth);
        }
        if (i < count) multiply_add(sum[0], values[i], tile + columns[i] * kWidth);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) _mm512_store_ps(sums + 16 * v, _mm512_add_ps(sum[0][v], sum[1][v]));
        values += count;
        columns += count;
    }
}

// A whole row at a time, its sums in registers: the tile then lies in the second-level cache, which for one or two
// vectors is as fast, and a loop ends once a row instead of once a chunk.
template <int kVectors>
void flat_rows(const FlatLists& lists, const Ahead& ahead, int64_t rows, const float* tile, float* sums) {
    constexpr int64_t kWidth = 16 * kVectors;
    const float* values = lists.values;
    const uint16_t* columns = lists.columns;
    for (int64_t row = 0; row < rows; ++row, sums += kWidth) {
        __m512 sum[kSets][kVectors];
#pragma GCC unroll 2
        for (int s = 0; s < kSets; ++s) {
#pragma GCC unroll 2
            for (int v = 0; v < kVectors; ++v) sum[s][v] = _mm512_setzero_ps();
        }
        const int64_t count = lists.counts[row];
        ask_ahead(ahead, row, rows, prefetch);
        int64_t i = 0;
        for (; i + kSets <= count; i += kSets) {
#pragma GCC unroll 2
            for (int s = 0; s < kSets; ++s) multiply_add(sum[s], values[i + s], tile + columns[i + s] * kWidth);
        }
        if (i < count) multiply_add(sum[0], values[i], tile + columns[i] * kWidth);
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) _mm512_store_ps(sums + 16 * v, _mm512_add_ps(sum[0][v], sum[1][v]));
        values += count;
        columns += count;
    }
}

// Eight tokens: half a vector takes half the cache.
void flat_rows_of_8(const FlatLists& lists, const Ahead& ahead, int64_t rows, const float* tile, float* sums) {
    const float* values = lists.values;
    const uint16_t* columns = lists.columns;
    for (int64_t row = 0; row < rows; ++row, sums += 16) {
        __m256 sum[4];
#pragma GCC unroll 4
        for (int s = 0; s < 4; ++s) sum[s] = _mm256_setzero_ps();
        const int64_t count = lists.counts[row];
        ask_ahead(ahead, row, rows, prefetch);
        int64_t i = 0;
        for (; i + 4 <= count; i += 4) {
#pragma GCC unroll 4
            for (int s = 0; s < 4; ++s) {
                sum[s] = _mm256_fmadd_ps(_mm256_set1_ps(values[i + s]), _mm256_load_ps(tile + 8 * columns[i + s]), sum[s]);
            }
        }
        for (; i < count; ++i) {
            sum[0] = _mm256_fmadd_ps(_mm256_set1_ps(values[i]), _mm256_load_ps(tile + 8 * columns[i]), sum[0]);
        }
        _mm256_store_ps(sums, _mm256_add_ps(_mm256_add_ps(sum[0], sum[2]), _mm256_add_ps(sum[1], sum[3])));
        values += count;
        columns += count;
    }
}

template <DType kType>
void store_tile(const LinearCall& call, const float* sums, int64_t width, int64_t token, int64_t count, int64_t row,
                int64_t rows) {
    const __mmask16 mask = lanes16(rows);
    for (int64_t t = 0; t < count; t += 16) {
        __m512 block[16];
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) block[i] = i < rows ? _mm512_load_ps(sums + i * width + t) : _mm512_setzero_ps();
        transpose16(block);
        for (int i = 0; i < 16 && t + i < count; ++i) store_outputs<kType>(call, token + t + i, row, mask, block[i]);
    }
}

}  // namespace

void bitmask_pack_avx512(const LinearCall& call, int64_t token, int64_t count, int64_t width, float* tile) {
    switch (call.dtype) {
        case DType::F32: pack_tile<DType::F32>(call, token, count, width, tile); return;
        case DType::F16: pack_tile<DType::F16>(call, token, count, width, tile); return;
        default: pack_tile<DType::BF16>(call, token, count, width, tile); return;
    }
}

void bitmask_flat_rows_avx512(const FlatLists& lists, const Ahead& ahead, int64_t rows, int64_t width, const float* tile,
                              float* sums) {
    switch (width) {
        case 8: flat_rows_of_8(lists, ahead, rows, tile, sums); return;
        case 16: flat_rows<1>(lists, ahead, rows, tile, sums); return;
        default: flat_rows<2>(lists, ahead, rows, tile, sums); return;
    }
}

void bitmask_chunk_rows_avx512(const float* values, const uint8_t* columns, const uint8_t* counts, int64_t rows,
                               int64_t width, const float* tile, float* sums) {
    switch (width) {
        case 16: chunk_rows<1>(values, columns, counts, rows, tile, sums); return;
        case 32: chunk_rows<2>(values, columns, counts, rows, tile, sums); return;
        case 48: chunk_rows<3>(values, columns, counts, rows, tile, sums); return;
        default: chunk_rows<4>(values, columns, counts, rows, tile, sums); return;
    }
}

void bitmask_store_avx512(const LinearCall& call, const float* sums, int64_t width, int64_t token, int64_t count,
                          int64_t row, int64_t rows) {
    for (; rows > 0; row += 16, rows -= 16, sums += 16 * width) {
        switch (call.dtype) {
            case DType::F32: store_tile<DType::F32>(call, sums, width, token, count, row, rows); break;
            case DType::F16: store_tile<DType::F16>(call, sums, width, token, count, row, rows); break;
            default: store_tile<DType::BF16>(call, sums, width, token, count, row, rows); break;
        }
    }
}

}  // namespace sparsecore::cpu
