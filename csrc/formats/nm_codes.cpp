// The second way to store N:M positions: one short code for each kept value.
#include <algorithm>
#include <cstring>

#include "core/checked.h"
#include "formats/bits.h"
#include "formats/nm.h"

namespace sparsecore::formats {

using core::Error;
using core::Span;

int nm_code_bits(int64_t m) {
    int bits = 1;
    while ((int64_t{1} << bits) < m) ++bits;
    return bits;
}

int64_t nm_code_bytes(int64_t kept_per_row, int64_t m) {
    return core::ceil_div(core::checked_mul(kept_per_row, nm_code_bits(m), "codes"), 8);
}

void nm_validate_codes(const Span& codes, int64_t cols, int64_t n, int64_t m) {
    const int64_t kept = nm_kept_per_row(cols, n, m), row_bytes = nm_code_bytes(kept, m);
    const int bits = nm_code_bits(m);
    require_dtype(codes, "codes", core::DType::U8);
    require_matrix(codes, "codes", -1, row_bytes);
    for (int64_t row = 0; row < codes.shape[0]; ++row) {
        const uint8_t* bytes = codes.as<const uint8_t>() + row * row_bytes;
        for (int64_t i = 0; i < kept; ++i) {
            const int64_t group = i / n, size = std::min(m, cols - group * m);
            const int64_t code = read_bits(bytes, i * bits, bits);
            const int64_t previous = i % n == 0 ? -1 : static_cast<int64_t>(read_bits(bytes, (i - 1) * bits, bits));
            if (code >= size || code <= previous) {
                throw Error("IndexTableError", "code " + std::to_string(code) + " is out of range or not ascending",
                            "row " + std::to_string(row) + ", kept value " + std::to_string(i),
                            "above " + std::to_string(previous) + " and below " + std::to_string(size));
            }
        }
        const int used = static_cast<int>(kept * bits % 8);
        if (used != 0 && bytes[row_bytes - 1] >> used != 0) {
            throw Error("IndexTableError", "padding bits after the last code are not zero",
                        "row " + std::to_string(row), "zeros from bit " + std::to_string(used) + " of the last byte");
        }
    }
}

void nm_bitmask_to_codes(const Span& bitmask, int64_t cols, int64_t n, int64_t m, const Span& codes) {
    nm_validate_bitmask(bitmask, cols, n, m);
    const int64_t row_bytes = nm_code_bytes(nm_kept_per_row(cols, n, m), m);
    require_dtype(codes, "codes", core::DType::U8);
    require_matrix(codes, "codes", bitmask.shape[0], row_bytes);
    require_disjoint(codes, "codes", bitmask, "bitmask");
    const int bits = nm_code_bits(m);
    for (int64_t row = 0; row < bitmask.shape[0]; ++row) {
        const uint8_t* mask = bitmask.as<const uint8_t>() + row * bitmask_bytes(cols);
        uint8_t* bytes = codes.as<uint8_t>() + row * row_bytes;
        if (row_bytes > 0) std::memset(bytes, 0, static_cast<size_t>(row_bytes));
        int64_t position = 0;
        for (int64_t col = 0; col < cols; ++col) {
            if (!test_bit(mask, col)) continue;
            write_bits(bytes, position, bits, static_cast<unsigned>(col % m));
            position += bits;
        }
    }
}

void nm_codes_to_bitmask(const Span& codes, int64_t cols, int64_t n, int64_t m, const Span& bitmask) {
    nm_validate_codes(codes, cols, n, m);
    const int64_t kept = nm_kept_per_row(cols, n, m), row_bytes = nm_code_bytes(kept, m);
    require_dtype(bitmask, "bitmask", core::DType::U8);
    require_matrix(bitmask, "bitmask", codes.shape[0], bitmask_bytes(cols));
    require_disjoint(bitmask, "bitmask", codes, "codes");
    const int bits = nm_code_bits(m);
    for (int64_t row = 0; row < codes.shape[0]; ++row) {
        const uint8_t* bytes = codes.as<const uint8_t>() + row * row_bytes;
        uint8_t* mask = bitmask.as<uint8_t>() + row * bitmask_bytes(cols);
        if (cols > 0) std::memset(mask, 0, static_cast<size_t>(bitmask_bytes(cols)));
        for (int64_t i = 0; i < kept; ++i) set_bit(mask, i / n * m + read_bits(bytes, i * bits, bits));
    }
}

namespace {

// The positions of the set bits of a row, at most `kept`; returns how many there were.
int64_t set_columns(const uint8_t* mask, int64_t cols, int64_t kept, int32_t* columns) {
    int64_t count = 0;
    for (int64_t first = 0; first < cols && count < kept; first += 64) {
        uint64_t word = 0;
        std::memcpy(&word, mask + first / 8, static_cast<size_t>(std::min<int64_t>(8, (cols - first + 7) / 8)));
        for (; word != 0 && count < kept; word &= word - 1) {
            columns[count++] = static_cast<int32_t>(std::min(first + __builtin_ctzll(word), cols - 1));
        }
    }
    return count;
}

}  // namespace

void nm_row_columns(const Span& positions, bool codes, int64_t row, int64_t cols, int64_t n, int64_t m,
                    int32_t* columns) {
    const uint8_t* bytes = positions.as<const uint8_t>() + row * positions.shape[1];
    const int64_t kept = nm_kept_per_row(cols, n, m);
    if (!codes) {
        const int64_t found = set_columns(bytes, cols, kept, columns);
        std::fill(columns + found, columns + kept, static_cast<int32_t>(cols - 1));
        return;
    }
    const int bits = nm_code_bits(m);
    for (int64_t i = 0, group = 0; i < kept; group += m) {
        for (const int64_t end = std::min(i + n, kept); i < end; ++i) {
            columns[i] = static_cast<int32_t>(std::min(group + read_bits(bytes, i * bits, bits), cols - 1));
        }
    }
}

namespace {

// For every byte of a bitmask whose groups do not cross bytes: the codes of its kept positions, in order.
struct ByteCodes {
    uint8_t codes[256][8];

    explicit ByteCodes(int64_t m) {
        for (int byte = 0; byte < 256; ++byte) {
            int count = 0;
            std::memset(codes[byte], 0, 8);
            for (int bit = 0; bit < 8; ++bit) {
                if (byte >> bit & 1) codes[byte][count++] = static_cast<uint8_t>(bit % m);
            }
        }
    }
};

}  // namespace

NmCodeReader::NmCodeReader(const Span& positions, bool codes, int64_t cols, int64_t n, int64_t m)
    : positions_(positions), codes_(codes), cols_(cols), n_(n), m_(m), kept_(nm_kept_per_row(cols, n, m)),
      columns_(static_cast<size_t>(kept_)) {}

void NmCodeReader::read(int64_t row, uint8_t* codes) {
    if (!codes_ && (m_ == 4 || m_ == 8 || m_ == 2) && cols_ % 8 == 0) {
        static const ByteCodes tables[] = {ByteCodes(2), ByteCodes(4), ByteCodes(8)};
        const ByteCodes& table = tables[m_ == 2 ? 0 : m_ == 4 ? 1 : 2];
        const uint8_t* mask = positions_.as<const uint8_t>() + row * positions_.shape[1];
        const int64_t step = 8 / m_ * n_;
        for (int64_t byte = 0; byte < cols_ / 8; ++byte, codes += step) std::memcpy(codes, table.codes[mask[byte]], 8);
        return;
    }
    nm_row_columns(positions_, codes_, row, cols_, n_, m_, columns_.data());
    for (int64_t i = 0, group = 0; i < kept_; group += m_) {
        for (const int64_t end = std::min(i + n_, kept_); i < end; ++i) {
            codes[i] = static_cast<uint8_t>(columns_[static_cast<size_t>(i)] - group);
        }
    }
}

}  // namespace sparsecore::formats
