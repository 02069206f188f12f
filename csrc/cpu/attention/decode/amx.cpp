// Products of a group of queries with planes of bytes on AMX tiles: 16 rows, 64 columns of theirs and up to 8 queries, each
// with its two bytes, at a time. Rows are copied as signed bytes before, which also brings listed rows and ragged widths
// into the shape of a tile.
#include "cpu/amx/tiles.h"
#include "cpu/attention/decode/avx512_planes.h"
#include "cpu/attention/decode/avx512_tables.h"

namespace sparsecore::cpu {

namespace {

constexpr int64_t kQueriesAtOnce = 8, kMostSteps = 8;  // of 64 columns: kDecodeMaxPlaneWidth and more

// Queries as tiles of 16 fours of columns: [step][four][query, a or b][4].
struct QueryTiles {
    alignas(64) uint8_t bytes[kMostSteps][tiles::kRows * tiles::kRowBytes];
    int64_t row_bytes;

    QueryTiles(const PlaneLayout& layout, const DecodeQuery* queries, int64_t count) : row_bytes(count * 8) {
        for (int64_t d = 0; d < layout.padded; d += 4) {
            uint8_t* four = bytes[d / 64] + d % 64 / 4 * row_bytes;
            for (int64_t q = 0; q < count; ++q) {
                __builtin_memcpy(four + q * 8, plane_bytes(layout, queries[q], 0) + d, 4);
                __builtin_memcpy(four + q * 8 + 4, plane_bytes(layout, queries[q], 1) + d, 4);
            }
        }
    }
};

void configure(int64_t row_bytes) {
    tiles::Config config;
    config.rows[tiles::kSums] = config.rows[tiles::kActivations] = config.rows[tiles::kWeights] = tiles::kRows;
    config.row_bytes[tiles::kSums] = config.row_bytes[tiles::kWeights] = static_cast<uint16_t>(row_bytes);
    config.row_bytes[tiles::kActivations] = tiles::kRowBytes;
    tiles::configure(config);
}

// Sixteen rows as signed bytes, [step][row][64], zeros past their end; past the last row that one again.
void copy_rows(const uint8_t* data, int64_t stride, int64_t bytes, const DecodeRows& rows, int64_t begin, uint8_t* copy) {
    const int64_t last = rows.count - 1;
    for (int64_t i = 0; i < kRowsAtOnce; ++i) {
        const uint8_t* row = data + rows.slot(begin + i < last ? begin + i : last) * stride;
        if (rows.list == nullptr) fetch(row + kAheadBytes, bytes);
        for (int64_t d = 0; d < bytes; d += 64) {
            const __mmask64 lanes = lanes64(bytes - d);
            const __m512i own = _mm512_xor_si512(_mm512_maskz_loadu_epi8(lanes, row + d), _mm512_set1_epi8(-128));
            _mm512_store_si512(copy + (d / 64 * kRowsAtOnce + i) * 64, _mm512_maskz_mov_epi8(lanes, own));
        }
    }
    if (rows.list != nullptr) fetch_listed(data, stride, bytes, rows.list + begin, kRowsAtOnce);
}

// Every stride-th integer from `from` on.
__m512i every(const int32_t* from, int64_t stride) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_i32gather_epi32(_mm512_mullo_epi32(lane, _mm512_set1_epi32(static_cast<int>(stride))), from, 4);
}

void multiply(const DecodePlane& plane, const uint8_t* data, int64_t width, const DecodeRows& rows,
              const DecodeQuery* queries, int64_t count, float* const* products) {
    const PlaneLayout layout = plane_layout(width);
    const QueryTiles query_tiles(layout, queries, count);
    alignas(64) uint8_t copy[kMostSteps * tiles::kRows * tiles::kRowBytes];
    alignas(64) int32_t sums[tiles::kRows * 2 * kQueriesAtOnce];
    configure(query_tiles.row_bytes);
    for (int64_t begin = 0; begin < rows.count; begin += kRowsAtOnce) {
        copy_rows(data, plane.part.row_stride, width, rows, begin, copy);
        tiles::zero<tiles::kSums>();
        for (int64_t step = 0; step * 64 < width; ++step) {
            tiles::load<tiles::kActivations>(copy + step * kRowsAtOnce * 64, 64);
            tiles::load<tiles::kWeights>(query_tiles.bytes[step], query_tiles.row_bytes);
            tiles::multiply_int8<0, 0>();
        }
        tiles::store<tiles::kSums>(sums, query_tiles.row_bytes);
        for (int64_t q = 0; q < count; ++q) {
            const __m512i a = every(sums + 2 * q, 2 * count), b = every(sums + 2 * q + 1, 2 * count);
            // The offset of 128 went with the sign; another one stays.
            const __m512i offset = _mm512_set1_epi32((plane.offset - 128) * queries[q].sum);
            const __m512i whole = _mm512_add_epi32(_mm512_slli_epi32(a, 7), b);
            store_plane_products(plane, _mm512_sub_epi32(whole, offset), products[q] + begin);
        }
    }
    tiles::release();
}

void plane_products(const DecodeProblem& p, const DecodePlane& plane, const uint8_t* data, const DecodeRows& rows,
                    const DecodeQuery* queries, int64_t count, float* const* products) {
    // One query leaves most of a tile empty, and nibbles would have to be taken apart.
    if (plane.nibbles || count == 1) {
        return decode_avx512().plane_products(p, plane, data, rows, queries, count, products);
    }
    for (int64_t q = 0; q < count; q += kQueriesAtOnce) {
        const int64_t some = count - q < kQueriesAtOnce ? count - q : kQueriesAtOnce;
        multiply(plane, data, p.width, rows, queries + q, some, products + q);
    }
}

}  // namespace

void decode_use_amx(DecodeKernels& table) { table.plane_products = plane_products; }

}  // namespace sparsecore::cpu
