// Tokens are the lanes: each non-zero weight is broadcast and meets up to four vectors of a transposed activation tile,
// [cols][16 * kVectors]. The sums of 16 rows are then transposed back, so that bias, activation and the stores work on
// 16 outputs of one token. Every sum is kept in kSets parts that are added at the end, for any token tile alike.
#include "cpu/bitmask_linear/kernels.h"
#include "cpu/common/avx512_output.h"

namespace sparsecore::cpu {

namespace {

using core::DType;

constexpr int kSets = 4;

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
            for (int i = 0; i < 16 && i < columns; ++i) _mm512_store_ps(out + i * width, block[i]);
        }
    }
}

template <int kVectors, class Index>
void sum_row(const float* values, const Index* columns, int64_t count, const float* tile, float* out) {
    constexpr int64_t kWidth = 16 * kVectors;
    __m512 sum[kSets][kVectors];
#pragma GCC unroll 4
    for (int s = 0; s < kSets; ++s) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) sum[s][v] = _mm512_setzero_ps();
    }
    int64_t i = 0;
    for (; i + kSets <= count; i += kSets) {
#pragma GCC unroll 4
        for (int s = 0; s < kSets; ++s) {
            const __m512 value = _mm512_set1_ps(values[i + s]);
            const float* x = tile + static_cast<int64_t>(columns[i + s]) * kWidth;
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) sum[s][v] = _mm512_fmadd_ps(value, _mm512_load_ps(x + 16 * v), sum[s][v]);
        }
    }
#pragma GCC unroll 4
    for (int s = 0; s < kSets; ++s) {
        if (i + s >= count) break;
        const __m512 value = _mm512_set1_ps(values[i + s]);
        const float* x = tile + static_cast<int64_t>(columns[i + s]) * kWidth;
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) sum[s][v] = _mm512_fmadd_ps(value, _mm512_load_ps(x + 16 * v), sum[s][v]);
    }
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
        const __m512 even = _mm512_add_ps(sum[0][v], sum[2][v]), odd = _mm512_add_ps(sum[1][v], sum[3][v]);
        _mm512_store_ps(out + 16 * v, _mm512_add_ps(even, odd));
    }
}

// sums [16, width] -> out, `rows` outputs of `count` tokens.
template <DType kType>
void store_tile(const LinearCall& call, const float* sums, int64_t width, int64_t token, int64_t count, int64_t row,
                int64_t rows) {
    const __mmask16 mask = lanes16(rows);
    for (int64_t t = 0; t < count; t += 16) {
        __m512 block[16];
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) block[i] = _mm512_load_ps(sums + i * width + t);
        transpose16(block);
        for (int i = 0; i < 16 && t + i < count; ++i) store_outputs<kType>(call, token + t + i, row, mask, block[i]);
    }
}

// The row's values as fp32: where they lie, or converted.
template <DType kType>
const float* row_values(const BitmaskWeight& w, int64_t first, int64_t count, float* scratch) {
    if constexpr (kType == DType::F32) return static_cast<const float*>(w.values) + first;
    for (int64_t i = 0; i < count; i += 16) {
        const __mmask16 mask = lanes16(count - i);
        _mm512_mask_storeu_ps(scratch + i, mask, load_ps<kType>(w.values, first + i, mask));
    }
    return scratch;
}

template <DType kType, int kVectors, class Index>
void run_tile(const LinearCall& call, const BitmaskWeight& w, const BitmaskPart& part, const IndexedScratch& scratch,
              int64_t token, int64_t count) {
    constexpr int64_t kWidth = 16 * kVectors;
    pack_tile<kType>(call, token, count, kWidth, scratch.activations);
    for (int64_t row = part.row_begin; row < part.row_end; row += kIndexedRows) {
        const int64_t left = part.row_end - row, rows = left < kIndexedRows ? left : kIndexedRows;
        for (int64_t r = 0; r < rows; ++r) {
            const int64_t first = w.row_offsets[row + r], kept = w.row_offsets[row + r + 1] - first;
            const float* values = row_values<kType>(w, first, kept, scratch.values);
            sum_row<kVectors>(values, static_cast<const Index*>(w.columns) + first, kept, scratch.activations,
                              scratch.sums + r * kWidth);
        }
        store_tile<kType>(call, scratch.sums, kWidth, token, count, row, rows);
    }
}

template <DType kType, class Index>
void run(const LinearCall& call, const BitmaskWeight& w, const BitmaskPart& part, const IndexedScratch& scratch) {
    for (int64_t token = part.token_begin; token < part.token_end; token += kIndexedTokens) {
        const int64_t left = part.token_end - token;
        if (left <= 16) {
            run_tile<kType, 1, Index>(call, w, part, scratch, token, left);
        } else if (left <= 32) {
            run_tile<kType, 2, Index>(call, w, part, scratch, token, left);
        } else {
            run_tile<kType, 4, Index>(call, w, part, scratch, token, left < kIndexedTokens ? left : kIndexedTokens);
        }
    }
}

template <class Index>
void run_type(const LinearCall& call, const BitmaskWeight& w, const BitmaskPart& part, const IndexedScratch& scratch) {
    switch (w.dtype) {
        case DType::F32: run<DType::F32, Index>(call, w, part, scratch); return;
        case DType::F16: run<DType::F16, Index>(call, w, part, scratch); return;
        default: run<DType::BF16, Index>(call, w, part, scratch); return;
    }
}

}  // namespace

void bitmask_linear_avx512(const LinearCall& call, const BitmaskWeight& w, const BitmaskPart& part,
                           const IndexedScratch& scratch) {
    if (narrow_columns(w.cols)) {
        run_type<uint16_t>(call, w, part, scratch);
    } else {
        run_type<uint32_t>(call, w, part, scratch);
    }
}

}  // namespace sparsecore::cpu
