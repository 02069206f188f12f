// Stored forms to strips: 64 columns of 16 rows come into registers, one row each, and are transposed in units of four
// columns. Damaged tables are refused before they come here (formats::validate_stored).
#include "cpu/common/avx512.h"
#include "cpu/int8_linear/strips.h"

namespace sparsecore::cpu {

namespace {

constexpr int64_t kWindow = 64;

const StoredRows& stored(const StripReader& reader) { return *static_cast<const StoredRows*>(reader.weight); }

void store_window(const __m512i (&rows)[kStripOutputs], void* out) {
    __m512 block[kStripOutputs];
    for (int i = 0; i < kStripOutputs; ++i) block[i] = _mm512_castsi512_ps(rows[i]);
    transpose16(block);
    for (int i = 0; i < kStripOutputs; ++i) _mm512_store_ps(static_cast<float*>(out) + i * 16, block[i]);
}

int64_t kept_per_row(const StoredRows& w) { return w.cols / w.m * w.n + (w.cols % w.m < w.n ? w.cols % w.m : w.n); }

// places: the next value of each row.
void open_values(StripReader& reader) {
    const StoredRows& w = stored(reader);
    for (int64_t i = 0; i < kStripOutputs; ++i) {
        const int64_t row = reader.strip * kStripOutputs + i;
        reader.places[i] = row >= w.rows ? 0 : w.offsets != nullptr ? w.offsets[row] : row * kept_per_row(w);
    }
}

void expand_bitmask(StripReader& reader, int64_t column, void* out, int64_t) {
    const StoredRows& w = stored(reader);
    const int64_t row_bytes = w.cols / 8 + (w.cols % 8 != 0), byte = column / 8;
    const size_t bytes = static_cast<size_t>(row_bytes - byte < 8 ? row_bytes - byte : 8);
    __m512i rows[kStripOutputs];
    for (int64_t i = 0; i < kStripOutputs; ++i) {
        const int64_t row = reader.strip * kStripOutputs + i;
        uint64_t mask = 0;
        if (row < w.rows) __builtin_memcpy(&mask, w.positions + row * row_bytes + byte, bytes);
        const int64_t count = __builtin_popcountll(mask);
        const __mmask64 read = _bzhi_u64(~uint64_t{0}, static_cast<unsigned>(count));
        rows[i] = _mm512_maskz_expand_epi8(mask, _mm512_maskz_loadu_epi8(read, w.values + reader.places[i]));
        reader.places[i] += count;
    }
    store_window(rows, out);
}

// The position of the slot's value in its group: `bits` bits, rows of codes start on a byte.
int64_t read_code(const uint8_t* codes, int64_t slot, int64_t bits) {
    const int64_t start = slot * bits, shift = start & 7;
    unsigned word = codes[start >> 3];
    if (shift + bits > 8) word |= static_cast<unsigned>(codes[(start >> 3) + 1]) << 8;
    return word >> shift & ((1u << bits) - 1u);
}

void expand_codes(StripReader& reader, int64_t column, void* out, int64_t) {
    const StoredRows& w = stored(reader);
    const int64_t kept = kept_per_row(w);
    int64_t bits = 1;
    while ((int64_t{1} << bits) < w.m) ++bits;
    const int64_t row_bytes = (kept * bits + 7) / 8;
    __m512i rows[kStripOutputs];
    for (int64_t i = 0; i < kStripOutputs; ++i) {
        const int64_t row = reader.strip * kStripOutputs + i;
        alignas(64) int8_t line[kWindow] = {};
        for (int64_t end = (row + 1) * kept; row < w.rows && reader.places[i] < end; ++reader.places[i]) {
            const int64_t slot = reader.places[i] - row * kept;
            const int64_t place = slot / w.n * w.m + read_code(w.positions + row * row_bytes, slot, bits) - column;
            if (place >= kWindow) break;
            line[place] = w.values[reader.places[i]];
        }
        rows[i] = _mm512_load_si512(line);
    }
    store_window(rows, out);
}

// places: the first block of each row's block row that reaches into the window or lies behind it.
void open_blocks(StripReader& reader) {
    const StoredRows& w = stored(reader);
    for (int64_t i = 0; i < kStripOutputs; ++i) {
        const int64_t row = reader.strip * kStripOutputs + i;
        reader.places[i] = row < w.rows ? w.offsets[row / w.n] : 0;
    }
}

void expand_blocks(StripReader& reader, int64_t column, void* out, int64_t) {
    const StoredRows& w = stored(reader);
    __m512i rows[kStripOutputs];
    for (int64_t i = 0; i < kStripOutputs; ++i) {
        const int64_t row = reader.strip * kStripOutputs + i;
        alignas(64) int8_t line[kWindow] = {};
        if (row < w.rows) {
            const int64_t end = w.offsets[row / w.n + 1];
            for (int64_t b = reader.places[i]; b < end; ++b) {
                const int64_t first = w.block_columns[b] * w.m - column;
                if (first >= kWindow) break;
                const int64_t skip = first < 0 ? -first : 0, room = kWindow - first;
                const int64_t length = (room < w.m ? room : w.m) - skip;
                if (room >= w.m) reader.places[i] = b + 1;
                if (length <= 0) continue;
                const int8_t* source = w.values + (b * w.n + row % w.n) * w.m + skip;
                __builtin_memcpy(line + first + skip, source, static_cast<size_t>(length));
            }
        }
        rows[i] = _mm512_load_si512(line);
    }
    store_window(rows, out);
}

// Merges the ascending blocks of the block rows that the strips reach into.
int64_t block_windows(const void* weight, int64_t strip, int64_t count, int32_t* columns) {
    const auto& w = *static_cast<const StoredRows*>(weight);
    const int64_t last = (strip + count) * kStripOutputs < w.rows ? (strip + count) * kStripOutputs : w.rows;
    int64_t found = 0;
    for (int64_t column = 0; column < w.cols; column += kWindow) {
        bool used = false;
        for (int64_t row = strip * kStripOutputs; !used && row < last; row = (row / w.n + 1) * w.n) {
            int64_t low = w.offsets[row / w.n], high = w.offsets[row / w.n + 1];
            const int64_t end = high;
            while (low < high) {  // the first block that ends behind the window's start
                const int64_t middle = low + (high - low) / 2;
                if ((w.block_columns[middle] + int64_t{1}) * w.m > column) {
                    high = middle;
                } else {
                    low = middle + 1;
                }
            }
            used = low < end && w.block_columns[low] * w.m < column + kWindow;
        }
        if (used) columns[found++] = static_cast<int32_t>(column);
    }
    return found;
}

StripSource source_of(const StoredRows& weight, void (*open)(StripReader&),
                      void (*expand)(StripReader&, int64_t, void*, int64_t)) {
    StripSource source{};
    source.weight = &weight;
    source.strips = weight.rows / kStripOutputs + (weight.rows % kStripOutputs != 0);
    source.open = open;
    source.expand = expand;
    return source;
}

}  // namespace

StripSource int8_bitmask_strips(const StoredRows& weight) { return source_of(weight, open_values, expand_bitmask); }
StripSource int8_code_strips(const StoredRows& weight) { return source_of(weight, open_values, expand_codes); }

StripSource int8_block_strips(const StoredRows& weight) {
    StripSource source = source_of(weight, open_blocks, expand_blocks);
    source.windows = block_windows;
    source.panel_strips = weight.n >= 2 * kStripOutputs ? 2 : 1;
    return source;
}

}  // namespace sparsecore::cpu
