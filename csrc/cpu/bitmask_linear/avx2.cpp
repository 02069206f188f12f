// As avx512_lists.cpp and avx512.cpp, with vectors of eight tokens.
#include <immintrin.h>

#include "cpu/bitmask_linear/kernels.h"

namespace sparsecore::cpu {

namespace {

using core::DType;

void prefetch(const char* address) { _mm_prefetch(address, _MM_HINT_T1); }

constexpr int kSets = 2;

template <DType kType>
void to_chunks(const RowLists& lists, int64_t rows, int64_t chunks, const ChunkLists& out) {
    const uint8_t *columns = lists.columns, *counts = lists.counts;
    int64_t value = 0;
    for (int64_t row = 0; row < rows; ++row) {
        for (int64_t chunk = 0; chunk < chunks; ++chunk) {
            const int64_t count = *counts++, place = out.places[chunk];
            out.places[chunk] = place + count;
            for (int64_t i = 0; i < count; ++i) {
                out.columns[place + i] = columns[i];
                out.values[place + i] = core::load_float(lists.values, value + i, kType);
            }
            columns += count;
            value += count;
        }
    }
}

void transpose8(__m256 (&r)[8]) {
    __m256 t[8];
    for (int i = 0; i < 4; ++i) {
        t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 2; ++i) {
        for (int j = 0; j < 2; ++j) {
            const __m256d low = _mm256_castps_pd(t[4 * i + j]), high = _mm256_castps_pd(t[4 * i + 2 + j]);
            r[4 * i + 2 * j] = _mm256_castpd_ps(_mm256_unpacklo_pd(low, high));
            r[4 * i + 2 * j + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low, high));
        }
    }
    for (int i = 0; i < 4; ++i) {
        t[i] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
        t[i + 4] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
    }
    for (int i = 0; i < 8; ++i) r[i] = t[i];
}

// Eight activations of a token, fewer at the end of the row.
__m256 load8(const LinearCall& call, int64_t token, int64_t column) {
    if (call.x_column_stride == 1 && column + 8 <= call.cols) {
        const int64_t first = token * call.x_token_stride + column;
        if (call.dtype == DType::F32) return _mm256_loadu_ps(static_cast<const float*>(call.x) + first);
        const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(static_cast<const uint16_t*>(call.x) + first));
        if (call.dtype == DType::F16) return _mm256_cvtph_ps(bits);
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
    }
    alignas(32) float x[8] = {};
    for (int i = 0; i < 8 && column + i < call.cols; ++i) x[i] = load_x(call, token, column + i);
    return _mm256_load_ps(x);
}

template <int kVectors>
void multiply_add(__m256 (&sum)[kVectors], float value, const float* x) {
    const __m256 weight = _mm256_set1_ps(value);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[v] = _mm256_fmadd_ps(weight, _mm256_load_ps(x + 8 * v), sum[v]);
}

template <int kVectors>
void chunk_rows(const float* values, const uint8_t* columns, const uint8_t* counts, int64_t rows, const float* tile,
                   float* sums) {
    constexpr int64_t kWidth = 8 * kVectors;
    for (int64_t row = 0; row < rows; ++row, sums += kWidth) {
        __m256 sum[kSets][kVectors];
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
            sum[0][v] = _mm256_load_ps(sums + 8 * v);
            sum[1][v] = _mm256_setzero_ps();
        }
        const int64_t count = counts[row];
        int64_t i = 0;
        for (; i + kSets <= count; i += kSets) {
#pragma GCC unroll 2
            for (int s = 0; s < kSets; ++s) multiply_add(sum[s], values[i + s], tile + columns[i + s] * kWidth);
        }
        if (i < count) multiply_add(sum[0], values[i], tile + columns[i] * kWidth);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) _mm256_store_ps(sums + 8 * v, _mm256_add_ps(sum[0][v], sum[1][v]));
        values += count;
        columns += count;
    }
}

template <int kVectors>
void flat_rows(const FlatLists& lists, const Ahead& ahead, int64_t rows, const float* tile, float* sums) {
    constexpr int64_t kWidth = 8 * kVectors;
    const float* values = lists.values;
    const uint16_t* columns = lists.columns;
    for (int64_t row = 0; row < rows; ++row, sums += kWidth) {
        __m256 sum[kSets][kVectors];
#pragma GCC unroll 2
        for (int s = 0; s < kSets; ++s) {
#pragma GCC unroll 2
            for (int v = 0; v < kVectors; ++v) sum[s][v] = _mm256_setzero_ps();
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
        for (int v = 0; v < kVectors; ++v) _mm256_store_ps(sums + 8 * v, _mm256_add_ps(sum[0][v], sum[1][v]));
        values += count;
        columns += count;
    }
}

}  // namespace

void bitmask_decode_avx2(const uint8_t* bitmask, int64_t rows, int64_t cols, uint8_t* columns, uint8_t* counts) {
    const int64_t bytes = cols / 8 + (cols % 8 != 0);
    for (int64_t row = 0; row < rows; ++row, bitmask += bytes) {
        for (int64_t first = 0; first < bytes; first += kChunk / 8) {
            const int64_t end = bytes - first < kChunk / 8 ? bytes - first : kChunk / 8;
            uint8_t* begin = columns;
            for (int64_t i = 0; i < end; i += 4) {
                uint32_t word = 0;
                __builtin_memcpy(&word, bitmask + first + i, static_cast<size_t>(end - i < 4 ? end - i : 4));
                for (; word != 0; word = _blsr_u32(word)) {
                    *columns++ = static_cast<uint8_t>(8 * i + static_cast<int64_t>(_tzcnt_u32(word)));
                }
            }
            *counts++ = static_cast<uint8_t>(columns - begin);
        }
    }
}

void bitmask_to_chunks_avx2(DType dtype, const RowLists& lists, int64_t rows, int64_t chunks, bool,
                            const ChunkLists& out) {
    switch (dtype) {
        case DType::F32: to_chunks<DType::F32>(lists, rows, chunks, out); return;
        case DType::F16: to_chunks<DType::F16>(lists, rows, chunks, out); return;
        default: to_chunks<DType::BF16>(lists, rows, chunks, out); return;
    }
}

FlatLists bitmask_flatten_avx2(DType dtype, const RowLists& lists, int64_t rows, int64_t chunks, bool,
                               const FlatScratch& out) {
    const uint8_t *columns = lists.columns, *counts = lists.counts;
    int64_t place = 0;
    for (int64_t row = 0; row < rows; ++row) {
        const int64_t begin = place;
        for (int64_t chunk = 0; chunk < chunks; ++chunk) {
            const int64_t end = place + *counts++;
            for (; place < end; ++place) out.columns[place] = static_cast<uint16_t>(chunk * kChunk + columns[place]);
        }
        out.counts[row] = place - begin;
    }
    if (dtype == DType::F32) return {static_cast<const float*>(lists.values), out.columns, out.counts};
    for (int64_t i = 0; i < place; ++i) out.values[i] = core::load_float(lists.values, i, dtype);
    return {out.values, out.columns, out.counts};
}

void bitmask_pack_avx2(const LinearCall& call, int64_t token, int64_t count, int64_t width, float* tile) {
    for (int64_t t = 0; t < width; t += 8) {
        for (int64_t c = 0; c < call.cols; c += 8) {
            __m256 block[8];
            for (int i = 0; i < 8; ++i) block[i] = t + i < count ? load8(call, token + t + i, c) : _mm256_setzero_ps();
            transpose8(block);
            for (int i = 0; i < 8 && c + i < call.cols; ++i) _mm256_store_ps(tile + (c + i) * width + t, block[i]);
        }
    }
}

void bitmask_flat_rows_avx2(const FlatLists& lists, const Ahead& ahead, int64_t rows, int64_t width, const float* tile,
                            float* sums) {
    if (width == 8) {
        flat_rows<1>(lists, ahead, rows, tile, sums);
    } else {
        flat_rows<2>(lists, ahead, rows, tile, sums);
    }
}

void bitmask_chunk_rows_avx2(const float* values, const uint8_t* columns, const uint8_t* counts, int64_t rows,
                             int64_t width, const float* tile, float* sums) {
    switch (width) {
        case 8: chunk_rows<1>(values, columns, counts, rows, tile, sums); return;
        case 16: chunk_rows<2>(values, columns, counts, rows, tile, sums); return;
        case 24: chunk_rows<3>(values, columns, counts, rows, tile, sums); return;
        default: chunk_rows<4>(values, columns, counts, rows, tile, sums); return;
    }
}

void bitmask_store_avx2(const LinearCall& call, const float* sums, int64_t width, int64_t token, int64_t count,
                        int64_t row, int64_t rows) {
    for (int64_t t = 0; t < count; ++t) {
        for (int64_t r = 0; r < rows; ++r) store_output(call, token + t, row + r, sums[r * width + t]);
    }
}

}  // namespace sparsecore::cpu
