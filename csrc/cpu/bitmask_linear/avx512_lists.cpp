// From a bitmask to lists, and lists of rows to lists of chunks.
#include "cpu/bitmask_linear/kernels.h"
#include "cpu/common/avx512.h"

namespace sparsecore::cpu {

namespace {

using core::DType;

// Bits of columns first .. first + 63 of a row whose bitmask has `bytes` bytes.
uint64_t load_bits(const uint8_t* bits, int64_t bytes, int64_t first) {
    uint64_t word = 0;
    const int64_t left = bytes - first / 8;
    if (left >= 8) {
        __builtin_memcpy(&word, bits + first / 8, 8);
    } else if (left > 0) {
        __builtin_memcpy(&word, bits + first / 8, static_cast<size_t>(left));
    }
    return word;
}

// The first `count` of 64 lanes, without a branch.
uint64_t lanes64(int64_t count) { return _bzhi_u64(~uint64_t{0}, static_cast<uint64_t>(count)); }

// Whole vectors are stored; what follows overwrites what is too much. kSteps are taken in any case, so that the count of
// a chunk rarely decides a branch.
template <DType kType, int kSteps>
void copy_piece(const void* values, int64_t value, const uint8_t* columns, int64_t count, float* to, uint8_t* to_columns) {
    const uint64_t lanes = lanes64(count);
#pragma GCC unroll 2
    for (int s = 0; s < kSteps; ++s) {
        const auto mask = static_cast<__mmask32>(lanes >> (32 * s));
        const __m512 low = load_ps<kType>(values, value + 32 * s, static_cast<__mmask16>(mask));
        const __m512 high = load_ps<kType>(values, value + 32 * s + 16, static_cast<__mmask16>(mask >> 16));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to_columns + 32 * s), _mm256_maskz_loadu_epi8(mask, columns + 32 * s));
        _mm512_storeu_ps(to + 32 * s, low);
        _mm512_storeu_ps(to + 32 * s + 16, high);
    }
}

template <DType kType, int kSteps>
void to_chunks(const RowLists& lists, int64_t rows, int64_t chunks, const ChunkLists& out) {
    const uint8_t *columns = lists.columns, *counts = lists.counts;
    int64_t value = 0;
    for (int64_t row = 0; row < rows; ++row) {
        for (int64_t chunk = 0; chunk < chunks; ++chunk) {
            const int64_t count = *counts++, place = out.places[chunk];
            out.places[chunk] = place + count;
            int64_t i = 0;
            do {
                copy_piece<kType, kSteps>(lists.values, value + i, columns + i, count - i, out.values + place + i,
                                          out.columns + place + i);
                i += 32 * kSteps;
            } while (__builtin_expect(i < count, 0));
            columns += count;
            value += count;
        }
    }
}

template <DType kType>
void to_chunks(const RowLists& lists, int64_t rows, int64_t chunks, bool dense, const ChunkLists& out) {
    if (dense) {
        to_chunks<kType, 2>(lists, rows, chunks, out);
    } else {
        to_chunks<kType, 1>(lists, rows, chunks, out);
    }
}

template <int kSteps>
void flatten_columns(const RowLists& lists, int64_t rows, int64_t chunks, uint16_t* out, int64_t* row_counts) {
    const uint8_t *columns = lists.columns, *counts = lists.counts;
    for (int64_t row = 0; row < rows; ++row) {
        const uint16_t* begin = out;
        for (int64_t chunk = 0; chunk < chunks; ++chunk) {
            const int64_t count = *counts++;
            const __m512i first = _mm512_set1_epi16(static_cast<int16_t>(chunk * kChunk));
            int64_t i = 0;
            do {
                const uint64_t lanes = lanes64(count - i);
#pragma GCC unroll 2
                for (int s = 0; s < kSteps; ++s, i += 32) {
                    const __m256i bytes = _mm256_maskz_loadu_epi8(static_cast<__mmask32>(lanes >> (32 * s)), columns + i);
                    _mm512_storeu_si512(out + i, _mm512_add_epi16(_mm512_cvtepu8_epi16(bytes), first));
                }
            } while (__builtin_expect(i < count, 0));
            columns += count;
            out += count;
        }
        row_counts[row] = out - begin;
    }
}

template <DType kType>
void widen(const void* values, int64_t count, float* out) {
    for (int64_t i = 0; i < count; i += 16) _mm512_storeu_ps(out + i, load_ps<kType>(values, i, lanes16(count - i)));
}

}  // namespace

void bitmask_decode_avx512(const uint8_t* bitmask, int64_t rows, int64_t cols, uint8_t* columns, uint8_t* counts) {
    alignas(64) uint8_t numbers[kChunk];
    for (int i = 0; i < kChunk; ++i) numbers[i] = static_cast<uint8_t>(i);
    const __m512i low = _mm512_load_si512(numbers), high = _mm512_load_si512(numbers + 64);
    const int64_t bytes = cols / 8 + (cols % 8 != 0);
    for (int64_t row = 0; row < rows; ++row, bitmask += bytes) {
        for (int64_t c = 0; c < cols; c += kChunk) {
            const uint64_t first = load_bits(bitmask, bytes, c), second = load_bits(bitmask, bytes, c + 64);
            const int64_t count = _mm_popcnt_u64(first), more = _mm_popcnt_u64(second);
            _mm512_storeu_si512(columns, _mm512_maskz_compress_epi8(first, low));
            _mm512_storeu_si512(columns + count, _mm512_maskz_compress_epi8(second, high));
            columns += count + more;
            *counts++ = static_cast<uint8_t>(count + more);
        }
    }
}

void bitmask_to_chunks_avx512(DType dtype, const RowLists& lists, int64_t rows, int64_t chunks, bool dense,
                              const ChunkLists& out) {
    switch (dtype) {
        case DType::F32: to_chunks<DType::F32>(lists, rows, chunks, dense, out); return;
        case DType::F16: to_chunks<DType::F16>(lists, rows, chunks, dense, out); return;
        default: to_chunks<DType::BF16>(lists, rows, chunks, dense, out); return;
    }
}

FlatLists bitmask_flatten_avx512(DType dtype, const RowLists& lists, int64_t rows, int64_t chunks, bool dense,
                                 const FlatScratch& out) {
    if (dense) {
        flatten_columns<2>(lists, rows, chunks, out.columns, out.counts);
    } else {
        flatten_columns<1>(lists, rows, chunks, out.columns, out.counts);
    }
    int64_t kept = 0;
    for (int64_t row = 0; row < rows; ++row) kept += out.counts[row];
    const float* values = out.values;
    switch (dtype) {
        case DType::F32: values = static_cast<const float*>(lists.values); break;
        case DType::F16: widen<DType::F16>(lists.values, kept, out.values); break;
        default: widen<DType::BF16>(lists.values, kept, out.values); break;
    }
    return {values, out.columns, out.counts};
}

}  // namespace sparsecore::cpu
