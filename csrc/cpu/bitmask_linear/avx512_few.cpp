// Few tokens: 64 columns of a row at a time, their values expanded from the bitmask into four vectors. The product is
// masked, so that a pruned position contributes nothing whatever the activation there.
#include "cpu/bitmask_linear/kernels.h"
#include "cpu/common/avx512_output.h"

namespace sparsecore::cpu {

namespace {

using core::DType;

// Bits of columns first .. first + 63 of a row whose bitmask has `bytes` bytes.
uint64_t load_bits(const uint8_t* bits, int64_t bytes, int64_t first) {
    uint64_t word = 0;
    const int64_t left = bytes - first / 8;
    __builtin_memcpy(&word, bits + first / 8, left < 8 ? static_cast<size_t>(left) : 8);
    return word;
}

template <DType kType, int kTokens>
void sum_row(const BitmaskWeight& w, int64_t row, const float* activations, int64_t stride, float* const* sums) {
    const int64_t bytes = w.cols / 8 + (w.cols % 8 != 0);
    const uint8_t* bits = w.bitmask + row * bytes;
    __m512 sum[4][kTokens];
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
#pragma GCC unroll 3
        for (int t = 0; t < kTokens; ++t) sum[v][t] = _mm512_setzero_ps();
    }
    int64_t value = w.row_offsets[row];
    for (int64_t c = 0; c < w.cols; c += 64) {
        uint64_t word;
        if (c + 64 <= w.cols) {
            __builtin_memcpy(&word, bits + c / 8, 8);
        } else {
            word = load_bits(bits, bytes, c);
        }
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) {
            const auto mask = static_cast<__mmask16>(word >> (16 * v));
            const unsigned count = _mm_popcnt_u32(mask);
            const __m512 packed = load_ps<kType>(w.values, value, static_cast<__mmask16>(_bzhi_u32(0xffffu, count)));
            const __m512 weights = _mm512_maskz_expand_ps(mask, packed);
            value += count;
#pragma GCC unroll 3
            for (int t = 0; t < kTokens; ++t) {
                const __m512 x = _mm512_load_ps(activations + t * stride + c + 16 * v);
                sum[v][t] = _mm512_mask3_fmadd_ps(weights, x, sum[v][t], mask);
            }
        }
    }
#pragma GCC unroll 3
    for (int t = 0; t < kTokens; ++t) {
        const __m512 even = _mm512_add_ps(sum[0][t], sum[2][t]), odd = _mm512_add_ps(sum[1][t], sum[3][t]);
        *sums[t] = _mm512_reduce_add_ps(_mm512_add_ps(even, odd));
    }
}

template <DType kType, int kTokens>
void run(const LinearCall& call, const BitmaskWeight& w, int64_t row_begin, int64_t row_end, float* activations) {
    const int64_t stride = (w.cols + 63) / 64 * 64;
    for (int64_t t = 0; t < kTokens; ++t) {
        for (int64_t c = 0; c < stride; ++c) activations[t * stride + c] = c < w.cols ? load_x(call, t, c) : 0.0f;
    }
    alignas(64) float sums[kTokens][16] = {};
    for (int64_t row = row_begin; row < row_end; row += 16) {
        const int64_t rows = row_end - row < 16 ? row_end - row : 16;
        for (int64_t r = 0; r < rows; ++r) {
            float* out[kTokens];
            for (int t = 0; t < kTokens; ++t) out[t] = &sums[t][r];
            sum_row<kType, kTokens>(w, row + r, activations, stride, out);
        }
        for (int t = 0; t < kTokens; ++t) {
            store_outputs<kType>(call, t, row, lanes16(rows), _mm512_load_ps(sums[t]));
        }
    }
}

template <DType kType>
void run_tokens(const LinearCall& call, const BitmaskWeight& w, int64_t row_begin, int64_t row_end, float* activations) {
    switch (call.tokens) {
        case 1: run<kType, 1>(call, w, row_begin, row_end, activations); return;
        case 2: run<kType, 2>(call, w, row_begin, row_end, activations); return;
        default: run<kType, 3>(call, w, row_begin, row_end, activations); return;
    }
}

}  // namespace

void bitmask_linear_few_avx512(const LinearCall& call, const BitmaskWeight& w, int64_t row_begin, int64_t row_end,
                               float* activations) {
    switch (w.dtype) {
        case DType::F32: run_tokens<DType::F32>(call, w, row_begin, row_end, activations); return;
        case DType::F16: run_tokens<DType::F16>(call, w, row_begin, row_end, activations); return;
        default: run_tokens<DType::BF16>(call, w, row_begin, row_end, activations); return;
    }
}

}  // namespace sparsecore::cpu
