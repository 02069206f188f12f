// Products of bytes in the decode kernel (nm_linear/decode.h), E the type of both factors: a fragment of weights, dense 16 x 32 or 2:4
// 16 x 64, as ptx/matrix_int8.h has it, times 8 tokens, whose activations lie in shared memory as they were quantised.
//
// fp8 has products of its own on sm_89 alone (on Hopper by wgmma, for 64 rows). Every number of it is an f16, so that here a pair is
// turned into f16 by one instruction (five before sm_89) and multiplied by mma of f16: products are exact, sums fp32, on every GPU.
#pragma once

#include "cuda/common/element.h"
#include "cuda/common/words.h"
#include "cuda/ptx/arithmetic.h"
#include "cuda/ptx/bits.h"
#include "cuda/ptx/matrix.h"
#include "cuda/ptx/matrix_int8.h"
#include "cuda/ptx/warp.h"

namespace sparsecore::cuda {

template <class E>
struct DecodeProducts;

template <>
struct DecodeProducts<I8> {
    using Sum = std::int32_t;
    struct Dense {
        std::uint32_t fragment[4];
    };
    struct Sparse {
        std::uint32_t fragment[4], metadata;
    };
    struct DenseTokens {
        Words2 b;
    };
    struct SparseTokens {
        std::uint32_t b[4];
    };

    static SC_DEVICE Dense dense(const std::uint32_t (&a)[4]) { return {{a[0], a[1], a[2], a[3]}}; }
    static SC_DEVICE Sparse sparse(const std::uint32_t (&a)[4], std::uint32_t metadata) { return {{a[0], a[1], a[2], a[3]}, metadata}; }

    // Fragments name 32 columns in another order, of weights as of tokens: lane t has columns 8t to 8t + 7. x: of the first of 8 tokens.
    template <int kTokens, int kStride>
    static SC_DEVICE DenseTokens dense_tokens(const std::uint16_t* x) {
        const int lane = static_cast<int>(thread_x() % kWarpSize);
        return {*reinterpret_cast<const Words2*>(x + lane / 4 % kTokens * kStride + lane % 4 * 4)};
    }
    // The 64 columns as they lie.
    template <int kTokens, int kStride>
    static SC_DEVICE SparseTokens sparse_tokens(const std::uint16_t* x) {
        const int lane = static_cast<int>(thread_x() % kWarpSize);
        SparseTokens tokens;
        load_matrix_x4(tokens.b, x + lane % 8 % kTokens * kStride + lane / 8 * kUnit);
        return tokens;
    }

    static SC_DEVICE void multiply(Sum (&d)[4], const Dense& a, const DenseTokens& tokens) { multiply_signed_bytes(d, a.fragment, tokens.b.word); }
    static SC_DEVICE void multiply(Sum (&d)[4], const Sparse& a, const SparseTokens& tokens) {
        multiply_sparse_bytes(d, a.fragment, tokens.b, a.metadata);
    }
};

// A fragment of bytes is two of f16: a[0] and a[1] make the first, and a lane's pairs of bytes become its registers of the same row.
template <>
struct DecodeProducts<E4M3> {
    using Sum = float;
    struct Dense {
        std::uint32_t fragments[2][4];
    };
    struct Sparse {
        std::uint32_t fragments[2][4], metadata;
    };
    struct DenseTokens {
        std::uint32_t b[2][2];
    };
    struct SparseTokens {
        std::uint32_t b[2][4];
    };

    static SC_DEVICE Dense dense(const std::uint32_t (&a)[4]) {
        Dense halves;
        unpack(a, halves.fragments);
        return halves;
    }
    static SC_DEVICE Sparse sparse(const std::uint32_t (&a)[4], std::uint32_t metadata) {
        Sparse halves;
        unpack(a, halves.fragments);
        halves.metadata = metadata_of_halves(metadata);
        return halves;
    }

    // The order of the columns as above.
    template <int kTokens, int kStride>
    static SC_DEVICE DenseTokens dense_tokens(const std::uint16_t* x) {
        const Words2 bytes = DecodeProducts<I8>::dense_tokens<kTokens, kStride>(x).b;
        DenseTokens tokens;
SC_UNROLL
        for (int i = 0; i < 2; ++i) unpack_e4m3(tokens.b[i], bytes.word[i]);
        return tokens;
    }
    // A group of four columns is a lane's pair of kept bytes. Groups 2t and 2t + 1 of 8 become groups t and 4 + t of a product of f16, whose
    // group t % 4 is in the tokens of the lanes 2t and 2t + 1: lanes 2u and 2u + 1 take the pairs of the groups 2u, 2u + 1 and four on.
    template <int kTokens, int kStride>
    static SC_DEVICE SparseTokens sparse_tokens(const std::uint16_t* x) {
        const int lane = static_cast<int>(thread_x() % kWarpSize);
        const std::uint16_t* own = x + lane / 4 % kTokens * kStride + lane % 4 / 2 * 4;
        const std::uint32_t chosen = lane % 2 == 0 ? 0x5410u : 0x7632u;
        SparseTokens tokens;
SC_UNROLL
        for (int i = 0; i < 2; ++i) {
SC_UNROLL
            for (int next = 0; next < 2; ++next) {
                const Words2 groups = *reinterpret_cast<const Words2*>(own + i * 16 + next * 8);
                std::uint32_t pairs[2];
                unpack_e4m3(pairs, choose_bytes(groups.word[0], groups.word[1], chosen));
                tokens.b[i][next] = pairs[0];
                tokens.b[i][next + 2] = pairs[1];
            }
        }
        return tokens;
    }

    static SC_DEVICE void multiply(Sum (&d)[4], const Dense& a, const DenseTokens& tokens) {
        cuda::multiply<F16>(d, a.fragments[0], tokens.b[0]);
        cuda::multiply<F16>(d, a.fragments[1], tokens.b[1]);
    }
    static SC_DEVICE void multiply(Sum (&d)[4], const Sparse& a, const SparseTokens& tokens) {
        cuda::multiply_sparse<F16, 0>(d, a.fragments[0], tokens.b[0], a.metadata);
        cuda::multiply_sparse<F16, 1>(d, a.fragments[1], tokens.b[1], a.metadata);
    }

private:
    static SC_DEVICE void unpack(const std::uint32_t (&a)[4], std::uint32_t (&fragments)[2][4]) {
SC_UNROLL
        for (int i = 0; i < 4; ++i) {
            std::uint32_t pairs[2];
            unpack_e4m3(pairs, a[i]);
            fragments[i / 2][i % 2] = pairs[0];
            fragments[i / 2][i % 2 + 2] = pairs[1];
        }
    }

    // Lanes 0 and 1 (2 and 3) of a row's four have metadata of bytes for the first (second) product, of row g and of row g + 8: a nibble a
    // group. f16 wants the even groups of both rows in the first of them, the odd ones in the second.
    static SC_DEVICE std::uint32_t metadata_of_halves(std::uint32_t bytes) {
        const std::uint32_t exchanged = (bytes >> 4 ^ bytes) & 0x00f000f0u;  // groups 1 and 2, 5 and 6
        const std::uint32_t own = bytes ^ exchanged ^ exchanged << 4;        // 0 2, 1 3, 4 6, 5 7
        const std::uint32_t other = shuffle_xor(own, 1);
        return choose_bytes(own, other, thread_x() % 2 == 0 ? 0x6420u : 0x3175u);
    }
};

}  // namespace sparsecore::cuda
