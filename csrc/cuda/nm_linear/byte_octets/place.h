// Where a kept value and its code lie in byte octets (layout.h says why); for the host and for kernels.
#pragma once

#include "cuda/nm_linear/octets/place.h"

namespace sparsecore::cuda {

constexpr int kByteOctetKept = 32, kByteOctetValues = 16;  // kept values of a row in a tile, of a lane

constexpr int byte_octet_columns(int n, int m) { return kByteOctetKept / n * m; }  // of a tile

// The kept value `slot` of `row`.
SC_DEVICE OctetPlace byte_octet_place(std::int64_t row, std::int64_t slot, std::int64_t column_tiles, int n, int m) {
    const int in_octet = n * 8 / m;  // kept values of an octet
    const int own = static_cast<int>(slot % kByteOctetKept), octet = own / in_octet, lower = static_cast<int>(row % kTileRows) / 8;
    const std::int64_t tile = row / kTileRows * column_tiles + slot / kByteOctetKept;
    return {tile * 32 + row % 8 * 4 + octet % 4, (octet / 4 * 2 + lower) * in_octet + own % in_octet};
}

// Two bits of code `index` of a lane's u32, and one of its u16: of each byte of a word, those for word 0, 1, ... follow each other.
SC_HOST_DEVICE constexpr int code_bit(int index) { return index % 4 * 8 + index / 4 * 2; }
SC_HOST_DEVICE constexpr int third_code_bit(int index) { return index % 2 * 8 + index / 4 * 2 + index / 2 % 2; }

// 1:8 weights are multiplied as 2:4 ones: the lowest bit of a code becomes metadata, which another lane has.
SC_HOST_DEVICE constexpr bool is_sparse_octet(int n, int m) { return n == 1 && m == 8; }

// The place of the third bit of a code: the highest of 2:8, the lowest of 1:8.
SC_DEVICE OctetPlace third_bit_place(std::int64_t row, std::int64_t slot, std::int64_t column_tiles, int n, int m) {
    OctetPlace place = byte_octet_place(row, slot, column_tiles, n, m);
    if (!is_sparse_octet(n, m)) return place;
    const int octet = static_cast<int>(slot % kByteOctetKept), lower = static_cast<int>(row % kTileRows) / 8;
    return {place.lane - octet % 4 + octet / 4 % 2 * 2 + lower, octet / 8 * 4 + octet % 4};
}

// A code from its two bits of the u32 and its one of the u16, and back.
SC_HOST_DEVICE constexpr unsigned join_code(unsigned two, unsigned third, int n, int m) {
    return is_sparse_octet(n, m) ? two << 1 | third : two | third << 2;
}
SC_HOST_DEVICE constexpr unsigned two_bits_of(unsigned code, int n, int m) { return is_sparse_octet(n, m) ? code >> 1 : code & 3u; }
SC_HOST_DEVICE constexpr unsigned third_bit_of(unsigned code, int n, int m) { return is_sparse_octet(n, m) ? code & 1u : code >> 2; }

}  // namespace sparsecore::cuda
