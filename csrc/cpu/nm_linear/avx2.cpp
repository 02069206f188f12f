// N:M linear with AVX2 for many tokens, in fp32 arithmetic: a vector is 8 tokens of one output. The inputs of a tile of
// tokens are transposed, [column][tokens], so that a kept value meets the row of its column: one fused multiply-add with a
// memory operand for 8 products, and no permutation. What is where:
//
//   first-level cache    the columns of one piece of the depth, and the weights of one row block in it, decoded to fp32
//                        values and byte offsets of their columns
//   second-level cache   the sums of a panel of rows, [rows][tokens], while the pieces pass
//
// Floor: two 32-byte loads a cycle, so two products a cycle, as many as a dense kernel makes: twice its speed for 2:4; with
// the broadcast of each value, 1.7 times. Each chain of additions runs in slot order.
#include "cpu/common/avx2.h"
#include "cpu/nm_linear/interleaved.h"

namespace sparsecore::cpu {

namespace {

using core::DType;

constexpr int kVectors = kTransposedTokens / 8;
constexpr int64_t kRowBytes = kTransposedTokens * 4;  // of a column of the panel, and of a row of sums

// A piece of the depth of a row block; rows past the end have weight zero.
struct Decoded {
    alignas(32) float values[kTransposedColumns][kLanes];
    alignas(32) int32_t offsets[kTransposedColumns][kLanes];  // in bytes, of the column in the panel
};

struct Piece {
    int64_t first_group, groups, first_step, steps;
};

inline __m256i load_codes(const uint16_t* words, int64_t count) {
    if (count >= 8) return _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(words)));
    alignas(16) uint16_t copy[8] = {};
    for (int64_t i = 0; i < count; ++i) copy[i] = words[i];
    return _mm256_cvtepu16_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(copy)));
}

// The next row block holds its piece of the depth elsewhere. An address past the end is never accessed.
inline void prefetch(const void* here, int64_t bytes) {
    _mm_prefetch(reinterpret_cast<const char*>(reinterpret_cast<uintptr_t>(here) + static_cast<uintptr_t>(bytes)),
                 _MM_HINT_T0);
}

template <DType kType>
void decode(const InterleavedWeight& w, int64_t block, const Piece& piece, Decoded& out) {
    const InterleavedShape& s = w.shape;
    const int64_t lanes = block_lanes(s, block);
    const __m256i mask = _mm256_set1_epi32((1 << s.bits) - 1), row_bytes = _mm256_set1_epi32(kRowBytes);
    const CodePlace place = code_place(s, block, piece.first_step, 0);
    const uint16_t* words = w.codes + place.index;
    int64_t value = value_index(s, block, piece.first_step, 0), shift = place.shift, in_group = 0;
    const int64_t next_values = s.steps * kLanes * core::itemsize(kType), next_words = s.words * kLanes * 2;
    int32_t base = 0;
    for (int64_t step = 0; step < piece.steps; ++step, value += lanes, shift += s.bits, ++in_group) {
        if (shift == s.word_codes * s.bits) {
            shift = 0;
            words += lanes;
        }
        if (in_group == s.n) {
            in_group = 0;
            base += static_cast<int32_t>(s.m);
        }
        prefetch(static_cast<const char*>(w.values) + value * core::itemsize(kType), next_values);
        if (shift == 0) prefetch(words, next_words);
        const __m128i count = _mm_cvtsi32_si128(static_cast<int>(shift));
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
            const __m256i codes = _mm256_srl_epi32(load_codes(words + half * 8, lanes - half * 8), count);
            const __m256i column = _mm256_add_epi32(_mm256_and_si256(codes, mask), _mm256_set1_epi32(base));
            _mm256_store_si256(reinterpret_cast<__m256i*>(out.offsets[step] + half * 8),
                               _mm256_mullo_epi32(column, row_bytes));
            _mm256_store_ps(out.values[step] + half * 8, load8_ps<kType>(w.values, value + half * 8, lanes - half * 8));
        }
    }
}

// Columns of one piece, [columns][tokens of the tile]; tokens past the end are zero.
template <DType kType>
void pack_piece(const LinearCall& call, int64_t token, int64_t tokens, int64_t column, int64_t columns, float* panel) {
    for (int64_t t = 0; t < kTransposedTokens && t < tokens; t += 8) {
        for (int64_t c = 0; c < columns; c += 8) {
            __m256 rows[8];
            for (int64_t i = 0; i < 8; ++i) {
                const int64_t place = (token + t + i) * call.x_token_stride + (column + c) * call.x_column_stride;
                const int64_t count = t + i < tokens ? columns - c : 0;
                if (call.x_column_stride == 1) {
                    rows[i] = load8_ps<kType>(call.x, place, count);
                    continue;
                }
                alignas(32) float copy[8] = {};
                for (int64_t k = 0; k < 8 && k < count; ++k) {
                    copy[k] = core::load_float(call.x, place + k * call.x_column_stride, kType);
                }
                rows[i] = _mm256_load_ps(copy);
            }
            transpose8(rows);
            for (int64_t i = 0; i < 8 && c + i < columns; ++i) {
                _mm256_store_ps(panel + (c + i) * kTransposedTokens + t, rows[i]);
            }
        }
    }
}

// kRows rows times kTokens vectors of 8 tokens.
template <int kTokens, int kRows>
void multiply_rows(const Decoded& weights, int64_t row, int64_t steps, const float* panel, bool first, float* sums) {
    __m256 sum[kRows][kTokens];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t) {
            sum[r][t] = first ? _mm256_setzero_ps() : _mm256_load_ps(sums + (row + r) * kTransposedTokens + t * 8);
        }
    }
    for (int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
            const __m256 value = _mm256_broadcast_ss(&weights.values[step][row + r]);
            const auto* x = reinterpret_cast<const float*>(reinterpret_cast<const char*>(panel) + weights.offsets[step][row + r]);
#pragma GCC unroll 8
            for (int t = 0; t < kTokens; ++t) sum[r][t] = _mm256_fmadd_ps(value, _mm256_load_ps(x + t * 8), sum[r][t]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t) _mm256_store_ps(sums + (row + r) * kTransposedTokens + t * 8, sum[r][t]);
    }
}

// Enough chains of additions for two a cycle, and no more sums than registers.
template <int kTokens>
void multiply_block(const Decoded& weights, int64_t steps, const float* panel, bool first, float* sums) {
    constexpr int kRows = kTokens == 1 ? 8 : kTokens <= 3 ? 4 : 2;
    for (int64_t row = 0; row < kLanes; row += kRows) {
        multiply_rows<kTokens, kRows>(weights, row, steps, panel, first, sums);
    }
}

using BlockKernel = void (*)(const Decoded&, int64_t, const float*, bool, float*);

BlockKernel choose(int64_t vectors) {
    static constexpr BlockKernel kernels[kVectors] = {multiply_block<1>, multiply_block<2>, multiply_block<3>,
                                                      multiply_block<4>, multiply_block<5>, multiply_block<6>};
    return kernels[vectors - 1];
}

template <DType kType>
void store_block(const LinearCall& call, int64_t token, int64_t tokens, int64_t row, const float* sums) {
    for (int64_t half = 0; half < kLanes && row + half < call.rows; half += 8) {
        for (int64_t t = 0; t < tokens; t += 8) {
            __m256 block[8];
            for (int64_t i = 0; i < 8; ++i) block[i] = _mm256_load_ps(sums + (half + i) * kTransposedTokens + t);
            transpose8(block);
            for (int64_t i = 0; i < 8 && t + i < tokens; ++i) {
                store_outputs8<kType>(call, token + t + i, row + half, call.rows - row - half, block[i]);
            }
        }
    }
}

// One tile of tokens, one panel of row blocks.
template <DType kType>
void run_panel(const LinearCall& call, const InterleavedWeight& w, int64_t token, int64_t tokens, int64_t block_begin,
               int64_t block_end, const InterleavedScratch& scratch) {
    const InterleavedShape& s = w.shape;
    auto* panel = static_cast<float*>(scratch.inputs);
    const BlockKernel kernel = choose((tokens + 7) / 8);
    const int64_t groups = kTransposedColumns / s.m;
    Decoded weights;
    Piece piece{0, groups, 0, 0};
    do {
        const int64_t column = piece.first_group * s.m, left = call.cols - column;
        piece.first_step = piece.first_group * s.n;
        piece.steps = s.steps - piece.first_step < groups * s.n ? s.steps - piece.first_step : groups * s.n;
        pack_piece<kType>(call, token, tokens, column, left < groups * s.m ? left : groups * s.m, panel);
        for (int64_t b = block_begin; b < block_end; ++b) {
            decode<kType>(w, b, piece, weights);
            kernel(weights, piece.steps, panel, piece.first_group == 0,
                   scratch.sums + (b - block_begin) * kLanes * kTransposedTokens);
        }
        piece.first_group += groups;
    } while (piece.first_group * s.m < call.cols);
    for (int64_t b = block_begin; b < block_end; ++b) {
        store_block<kType>(call, token, tokens, b * kLanes, scratch.sums + (b - block_begin) * kLanes * kTransposedTokens);
    }
}

template <DType kType>
void run(const LinearCall& call, const InterleavedWeight& w, const InterleavedPart& part,
         const InterleavedScratch& scratch) {
    const int64_t count = part.token_end - part.token_begin, tiles = (count + kTransposedTokens - 1) / kTransposedTokens;
    const int64_t vectors = (count + 7) / 8;
    for (int64_t i = 0; i < tiles; ++i) {
        const int64_t begin = i * vectors / tiles * 8, end = (i + 1) * vectors / tiles * 8;
        const int64_t tokens = (end < count ? end : count) - begin;
        for (int64_t b = part.block_begin; b < part.block_end; b += kTransposedBlocks) {
            const int64_t last = b + kTransposedBlocks < part.block_end ? b + kTransposedBlocks : part.block_end;
            run_panel<kType>(call, w, part.token_begin + begin, tokens, b, last, scratch);
        }
    }
}

}  // namespace

void nm_linear_avx2(const LinearCall& call, const InterleavedWeight& weight, const InterleavedPart& part,
                    const InterleavedScratch& scratch) {
    constexpr int64_t kFewTokens = 6;
    if (part.token_end - part.token_begin <= kFewTokens) {
        return nm_linear_avx2_few(call, weight, part, static_cast<float*>(scratch.inputs));
    }
    switch (weight.dtype) {
        case DType::F16: return run<DType::F16>(call, weight, part, scratch);
        case DType::BF16: return run<DType::BF16>(call, weight, part, scratch);
        default: return run<DType::F32>(call, weight, part, scratch);
    }
}

}  // namespace sparsecore::cpu
