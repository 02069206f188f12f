// Register tile: 12 tokens x 32 outputs = 24 accumulators. For each kept input, two vectors of weights (outputs are
// neighbours in the column-major block) meet one broadcast activation a token, read where it lies: x is not repacked.
#include "cpu/block_linear/kernels.h"
#include "cpu/common/avx512_output.h"

namespace sparsecore::cpu {

namespace {

using core::DType;

// Activations as fp32 with neighbouring columns: either x itself or a converted copy of one super-tile.
struct Activations {
    const float* data;
    int64_t token_stride;
};

template <DType kType>
Activations prepare(const LinearCall& call, int64_t token, int64_t count, float* scratch) {
    if (kType == DType::F32 && call.x_column_stride == 1) {
        return {static_cast<const float*>(call.x) + token * call.x_token_stride, call.x_token_stride};
    }
    for (int64_t t = 0; t < count; ++t) {
        float* row = scratch + t * call.cols;
        const int64_t first = (token + t) * call.x_token_stride;
        if (call.x_column_stride == 1) {
            for (int64_t c = 0; c < call.cols; c += 16) {
                const __mmask16 mask = lanes16(call.cols - c);
                _mm512_mask_storeu_ps(row + c, mask, load_ps<kType>(call.x, first + c, mask));
            }
        } else {
            for (int64_t c = 0; c < call.cols; ++c) row[c] = load_x(call, token + t, c);
        }
    }
    return {scratch, call.cols};
}

// One strip of up to 16 * kVectors rows of a block row.
struct Strip {
    int64_t block_row, in_block;  // first row inside the block
    __mmask16 load[2], store[2];  // lanes that the block has / that the weight has
};

template <DType kType, int kVectors, int kTokens>
void tile(const LinearCall& call, const BlockWeight& w, const Strip& strip, const float* x, int64_t x_stride,
          int64_t token) {
    constexpr int64_t kSize = kType == DType::F32 ? 4 : 2;
    __m512 sum[kTokens][kVectors];
#pragma GCC unroll 12
    for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) sum[t][v] = _mm512_setzero_ps();
    }
    const int64_t end = w.row_offsets[strip.block_row + 1];
    for (int64_t b = w.row_offsets[strip.block_row]; b < end; ++b) {
        const int64_t column = w.columns[b] * w.block_cols;
        const int64_t left = w.cols - column;
        const int64_t depth = left < w.block_cols ? left : w.block_cols;
        const char* values = static_cast<const char*>(w.blocks) +
                             (b * w.block_cols * w.block_rows + strip.in_block) * kSize;
        const float* xk = x + column;
        for (int64_t k = 0; k < depth; ++k, ++xk, values += w.block_rows * kSize) {
            __m512 weight[kVectors];
#pragma GCC unroll 2
            for (int v = 0; v < kVectors; ++v) weight[v] = load_ps<kType>(values, 16 * v, strip.load[v]);
#pragma GCC unroll 12
            for (int t = 0; t < kTokens; ++t) {
                const __m512 activation = _mm512_set1_ps(xk[t * x_stride]);
#pragma GCC unroll 2
                for (int v = 0; v < kVectors; ++v) sum[t][v] = _mm512_fmadd_ps(weight[v], activation, sum[t][v]);
            }
        }
    }
    const int64_t row = strip.block_row * w.block_rows + strip.in_block;
#pragma GCC unroll 12
    for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) {
            store_outputs<kType>(call, token + t, row + 16 * v, strip.store[v], sum[t][v]);
        }
    }
}

template <DType kType, int kVectors>
void strip_tokens(const LinearCall& call, const BlockWeight& w, const Strip& strip, const Activations& x, int64_t token,
                  int64_t count) {
    const float* data = x.data;
    auto step = [&](auto run, int64_t tokens) {
        run(call, w, strip, data, x.token_stride, token);
        data += tokens * x.token_stride;
        token += tokens;
        count -= tokens;
    };
    while (count >= 12) step(tile<kType, kVectors, 12>, 12);
    while (count >= 4) step(tile<kType, kVectors, 4>, 4);
    if (count >= 2) step(tile<kType, kVectors, 2>, 2);
    if (count >= 1) step(tile<kType, kVectors, 1>, 1);
}

template <DType kType>
void run(const LinearCall& call, const BlockWeight& w, const BlockPart& part, float* scratch) {
    const int64_t super = block_super_tile(w.cols);
    for (int64_t token = part.token_begin; token < part.token_end; token += super) {
        const int64_t left = part.token_end - token, count = left < super ? left : super;
        const Activations x = prepare<kType>(call, token, count, scratch);
        for (int64_t block_row = part.row_begin; block_row < part.row_end; ++block_row) {
            const int64_t rows_left = w.rows - block_row * w.block_rows;
            const int64_t rows = rows_left < w.block_rows ? rows_left : w.block_rows;
            for (int64_t i = 0; i < rows; i += 32) {
                const Strip strip{block_row,
                                  i,
                                  {lanes16(w.block_rows - i), lanes16(w.block_rows - i - 16)},
                                  {lanes16(rows - i), lanes16(rows - i - 16)}};
                if (rows - i > 16) {
                    strip_tokens<kType, 2>(call, w, strip, x, token, count);
                } else {
                    strip_tokens<kType, 1>(call, w, strip, x, token, count);
                }
            }
        }
    }
}

}  // namespace

void block_linear_avx512(const LinearCall& call, const BlockWeight& w, const BlockPart& part, float* scratch) {
    switch (w.dtype) {
        case DType::F32: run<DType::F32>(call, w, part, scratch); return;
        case DType::F16: run<DType::F16>(call, w, part, scratch); return;
        default: run<DType::BF16>(call, w, part, scratch); return;
    }
}

}  // namespace sparsecore::cpu
