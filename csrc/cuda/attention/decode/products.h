// Products of 16 stored rows and the queries of a block, by one warp; g = lane / 4, t = lane % 4.
//
// A lane has rows g and g + 8 and reads every fourth piece of 16 bytes of both, so that four lanes read 64 neighbouring
// bytes. Which dimensions a register of an operand stands for does not matter as long as it is the same for both: the
// queries are read at the same places. Lane t gets the products of query t of every tile of four queries.
#pragma once

#include "cuda/attention/decode/query.h"
#include "cuda/ptx/matrix.h"
#include "cuda/ptx/matrix_int8.h"

namespace sparsecore::cuda::decode {

constexpr int kTileQueries = 4, kTileKeys = 16;
constexpr int kLanesOfRow = 4, kPiecesAtOnce = 2;

// This lane's two rows of a tensor of the store; null: there is none.
struct RowPair {
    const std::uint8_t* row[2];
};

// body(piece of row g, piece of row g + 8, place of the piece), in step for all lanes; places beyond the rows give zeros.
template <class Body>
SC_DEVICE void for_each_piece(const Part& part, const RowPair& rows, Body&& body) {
    constexpr int kStep = kLanesOfRow * kPiece;
    const int own = lane_index() % kLanesOfRow * kPiece;
    for (int first = 0; first < part.bytes; first += kPiecesAtOnce * kStep) {
        Words4 piece[kPiecesAtOnce][2];
SC_UNROLL
        for (int p = 0; p < kPiecesAtOnce; ++p) {
SC_UNROLL
            for (int r = 0; r < 2; ++r) {
                piece[p][r] = Words4{};
                const int at = first + p * kStep + own;
                if (rows.row[r] != nullptr && at < part.bytes) piece[p][r] = load_piece(rows.row[r], at, part.bytes, part.aligned);
            }
        }
SC_UNROLL
        for (int p = 0; p < kPiecesAtOnce; ++p) {
            if (first + p * kStep < part.bytes) body(piece[p][0], piece[p][1], first + p * kStep + own);
        }
    }
}

// Words 2 `pair` and 2 `pair` + 1 of both rows as operand A, and of a query's piece as operand B.
SC_DEVICE void take_pair(const Words4& upper, const Words4& lower, const Words4& query, int pair, std::uint32_t (&a)[4],
                         std::uint32_t (&b)[2]) {
    a[0] = upper.word[2 * pair], a[1] = lower.word[2 * pair];
    a[2] = upper.word[2 * pair + 1], a[3] = lower.word[2 * pair + 1];
    b[0] = query.word[2 * pair], b[1] = query.word[2 * pair + 1];
}

// product[i][r] = query 4 i + t times row g + 8 r of a plane of unsigned bytes or nibbles.
template <bool kNibbles, int kTiles>
SC_DEVICE void multiply_plane(const Part& plane, const RowPair& rows, const IntegerColumns& queries,
                              std::int32_t (&product)[kTiles][2]) {
    std::int32_t d[kTiles][4] = {};
    for_each_piece(plane, rows, [&](const Words4& upper, const Words4& lower, int place) {
SC_UNROLL
        for (int half = 0; half < (kNibbles ? 2 : 1); ++half) {
SC_UNROLL
            for (int tile = 0; tile < kTiles; ++tile) {
                const Words4& query = queries.piece(tile * 2 * kTileQueries + lane_index() / kLanesOfRow, place + half * kWidth / 2);
SC_UNROLL
                for (int pair = 0; pair < 2; ++pair) {
                    std::uint32_t a[4], b[2];
                    take_pair(upper, lower, query, pair, a, b);
SC_UNROLL
                    for (int i = 0; kNibbles && i < 4; ++i) a[i] = (a[i] >> (4 * half)) & 0x0f0f0f0fu;
                    multiply_bytes(d[tile], a, b);
                }
            }
        }
    });
SC_UNROLL
    for (int tile = 0; tile < kTiles; ++tile) {
SC_UNROLL
        for (int r = 0; r < 2; ++r) product[tile][r] = 128 * d[tile][2 * r] + d[tile][2 * r + 1];
    }
}

// The same for dense rows of 16-bit elements. Two columns have one query.
template <class T, int kTiles, class Operand>
SC_DEVICE void multiply_dense(T, const Part& keys, const RowPair& rows, const Operand& queries, float (&product)[kTiles][2]) {
    float d[kTiles][4] = {};
    for_each_piece(keys, rows, [&](const Words4& upper, const Words4& lower, int place) {
SC_UNROLL
        for (int tile = 0; tile < kTiles; ++tile) {
            const Words4& query = queries.piece(tile * kTileQueries + lane_index() / kLanesOfRow / 2, place);
SC_UNROLL
            for (int pair = 0; pair < 2; ++pair) {
                std::uint32_t a[4], b[2];
                take_pair(upper, lower, query, pair, a, b);
                multiply<T>(d[tile], a, b);
            }
        }
    });
SC_UNROLL
    for (int tile = 0; tile < kTiles; ++tile) product[tile][0] = d[tile][0], product[tile][1] = d[tile][2];
}

// fp32 has no product of a warp that keeps all its bits: every lane multiplies its pieces, four lanes add up a row.
template <int kTiles, class Operand>
SC_DEVICE void multiply_dense(F32, const Part& keys, const RowPair& rows, const Operand& queries, float (&product)[kTiles][2]) {
    constexpr int kCount = kTiles * kTileQueries;
    float sum[kCount][2] = {};
    for_each_piece(keys, rows, [&](const Words4& upper, const Words4& lower, int place) {
SC_UNROLL
        for (int q = 0; q < kCount; ++q) {
            const Words4& query = queries.piece(q, place);
SC_UNROLL
            for (int w = 0; w < 4; ++w) {
                const float factor = bits_to_float(query.word[w]);
                sum[q][0] = fmaf(bits_to_float(upper.word[w]), factor, sum[q][0]);
                sum[q][1] = fmaf(bits_to_float(lower.word[w]), factor, sum[q][1]);
            }
        }
    });
    const int own = lane_index() % kLanesOfRow;
SC_UNROLL
    for (int q = 0; q < kCount; ++q) {
SC_UNROLL
        for (int r = 0; r < 2; ++r) {
            float whole = sum[q][r];
SC_UNROLL
            for (int step = 1; step < kLanesOfRow; step *= 2) whole += shuffle_xor(whole, step);
            if (q % kTileQueries == own) product[q / kTileQueries][r] = whole;
        }
    }
}

}  // namespace sparsecore::cuda::decode
