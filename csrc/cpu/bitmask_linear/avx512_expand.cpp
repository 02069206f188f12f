// Makes rows of a bitmask or of lists dense, 16 at a time, in the order of strips.
#include "cpu/bitmask_linear/strips.h"
#include "cpu/common/avx512.h"

namespace sparsecore::cpu {

namespace {

constexpr int64_t kWindow = 32;  // columns of 16-bit values

int64_t strip_rows(const BitmaskWeight& w, int64_t strip) {
    const int64_t left = w.rows - strip * kStripOutputs;
    return left < kStripOutputs ? left : kStripOutputs;
}

// Bits of the columns column .. column + 31 of a row whose bitmask has `bytes` bytes.
uint32_t load_bits(const uint8_t* bits, int64_t bytes, int64_t column) {
    const int64_t left = bytes - column / 8;
    uint32_t word = 0;
    if (left >= 4) {
        __builtin_memcpy(&word, bits + column / 8, 4);
    } else {
        for (int64_t i = 0; i < left; ++i) word |= static_cast<uint32_t>(bits[column / 8 + i]) << (8 * i);
    }
    return word;
}

}  // namespace

void open_unstructured_strip(StripReader& reader) {
    const auto& w = *static_cast<const BitmaskWeight*>(reader.weight);
    const int64_t row = reader.strip * kStripOutputs, rows = strip_rows(w, reader.strip);
    for (int64_t r = 0; r < rows; ++r) reader.places[r] = w.row_offsets[row + r];
}

// A row's 32 columns are one expanded vector, which the strip wants as a column of pairs: 16 rows are transposed.
void expand_bitmask16_avx512(StripReader& reader, int64_t column, void* out, int64_t) {
    const auto& w = *static_cast<const BitmaskWeight*>(reader.weight);
    const int64_t bytes = w.cols / 8 + (w.cols % 8 != 0), rows = strip_rows(w, reader.strip);
    const uint8_t* bits = w.bitmask + reader.strip * kStripOutputs * bytes;
    const auto* values = static_cast<const uint16_t*>(w.values);
    __m512 pairs[16];
#pragma GCC unroll 16
    for (int r = 0; r < 16; ++r) {
        pairs[r] = _mm512_setzero_ps();
        if (r >= rows) continue;
        const __mmask32 mask = load_bits(bits + r * bytes, bytes, column);
        const unsigned count = _mm_popcnt_u32(mask);
        const auto kept = static_cast<__mmask32>(_bzhi_u32(~0u, count));
        const __m512i packed = _mm512_maskz_loadu_epi16(kept, values + reader.places[r]);
        pairs[r] = _mm512_castsi512_ps(_mm512_maskz_expand_epi16(mask, packed));
        reader.places[r] += count;
    }
    transpose16(pairs);
#pragma GCC unroll 16
    for (int g = 0; g < 16; ++g) _mm512_store_ps(static_cast<float*>(out) + g * kStripOutputs, pairs[g]);
}

// Values go one by one to where the strip has them: at the densities of lists there are few.
void expand_lists16_avx512(StripReader& reader, int64_t column, void* out, int64_t stride) {
    const auto& w = *static_cast<const BitmaskWeight*>(reader.weight);
    const int64_t chunk = column / kChunk, chunks = chunk_count(w.cols), rows = strip_rows(w, reader.strip);
    auto* bytes = static_cast<uint8_t*>(out);
    for (int64_t window = 0; window < kChunk / kWindow; ++window) {
        for (int64_t g = 0; g < kWindowGroups; ++g) _mm512_store_si512(bytes + window * stride + g * 64, _mm512_setzero_si512());
    }
    for (int64_t r = 0; r < rows; ++r) {
        const int64_t count = w.counts[(reader.strip * kStripOutputs + r) * chunks + chunk];
        const uint8_t* columns = w.columns + reader.places[r];
        const auto* values = static_cast<const uint16_t*>(w.values) + reader.places[r];
        reader.places[r] += count;
        for (int64_t i = 0; i < count; ++i) {
            const int64_t in_window = columns[i] % kWindow;
            uint8_t* to = bytes + columns[i] / kWindow * stride + (in_window / 2 * kStripOutputs + r) * 4 + in_window % 2 * 2;
            __builtin_memcpy(to, values + i, 2);
        }
    }
}

}  // namespace sparsecore::cpu
