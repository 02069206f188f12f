// N:M linear with AVX2 for few tokens, in fp32 arithmetic: a vector is 8 outputs of one token, a tile a row block times up
// to 4 tokens. For every slot a permutation fetches the inputs of 8 outputs out of the 8 that lie from the beginning of their
// group on; where m is above 8, out of two or four such windows.
//
// Floor: the weights are read once (4.25 bytes a kept fp32 value for 2:4). Each chain of additions runs in slot order.
#include "cpu/common/avx2.h"
#include "cpu/nm_linear/interleaved.h"

namespace sparsecore::cpu {

namespace {

using core::DType;

constexpr int kMaxTokens = 4;
constexpr int64_t kHalf = 8;

// Lanes index[i] of kWindows * 8 floats.
template <int kWindows>
inline __m256 pick(__m256i index, const float* x) {
    const __m256 picked = _mm256_permutevar8x32_ps(_mm256_loadu_ps(x), index);
    if constexpr (kWindows == 1) {
        return picked;
    } else {
        // The highest bit of the index says in which half of the windows it lies.
        const __m256i high = _mm256_slli_epi32(index, kWindows == 2 ? 28 : 27);
        const __m256 low = kWindows == 2 ? picked : pick<2>(index, x);
        const __m256 above = pick<kWindows / 2>(index, x + kWindows / 2 * kHalf);
        return _mm256_blendv_ps(low, above, _mm256_castsi256_ps(high));
    }
}

struct Block {
    const InterleavedShape* shape;
    const void* values;
    const uint16_t* codes;
    int64_t lanes;
};

// 8 codes from code word `place` on.
inline __m256i load_codes(const uint16_t* words, int64_t count) {
    if (count >= kHalf) return _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(words)));
    alignas(16) uint16_t copy[kHalf] = {};
    for (int64_t i = 0; i < count; ++i) copy[i] = words[i];
    return _mm256_cvtepu16_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(copy)));
}

// x: [tokens][stride], groups `pitch` apart, readable for 32 floats past the last group.
template <DType kType, int kWindows, int kTokens>
void run_tile(const Block& block, const float* x, int64_t stride, float* sums) {
    const InterleavedShape& s = *block.shape;
    const __m256i mask = _mm256_set1_epi32((1 << s.bits) - 1);
    const __m128i bits = _mm_cvtsi32_si128(static_cast<int>(s.bits));
    const int64_t high_lanes = block.lanes - kHalf;
    __m256 low[kTokens], high[kTokens];
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; ++t) low[t] = high[t] = _mm256_setzero_ps();
    __m256i low_codes = _mm256_setzero_si256(), high_codes = low_codes;
    const uint16_t* words = block.codes;
    int64_t value = 0, left_in_word = 0, left_in_group = s.n;
    for (int64_t step = 0; step < s.steps; ++step, value += block.lanes, --left_in_word, --left_in_group) {
        if (left_in_word == 0) {
            low_codes = load_codes(words, block.lanes);
            high_codes = load_codes(words + kHalf, high_lanes);
            words += block.lanes;
            left_in_word = s.word_codes;
        }
        if (left_in_group == 0) {
            x += s.pitch;
            left_in_group = s.n;
        }
        const __m256i low_index = _mm256_and_si256(low_codes, mask), high_index = _mm256_and_si256(high_codes, mask);
        const __m256 low_weights = load8_ps<kType>(block.values, value, block.lanes);
        const __m256 high_weights = load8_ps<kType>(block.values, value + kHalf, high_lanes);
        low_codes = _mm256_srl_epi32(low_codes, bits);
        high_codes = _mm256_srl_epi32(high_codes, bits);
#pragma GCC unroll 4
        for (int t = 0; t < kTokens; ++t) {
            low[t] = _mm256_fmadd_ps(low_weights, pick<kWindows>(low_index, x + t * stride), low[t]);
            high[t] = _mm256_fmadd_ps(high_weights, pick<kWindows>(high_index, x + t * stride), high[t]);
        }
    }
    for (int t = 0; t < kTokens; ++t) {
        _mm256_storeu_ps(sums + t * kLanes, low[t]);
        _mm256_storeu_ps(sums + t * kLanes + kHalf, high[t]);
    }
}

using TileKernel = void (*)(const Block&, const float*, int64_t, float*);

template <DType kType, int kWindows>
TileKernel choose(int64_t tokens) {
    static constexpr TileKernel kernels[kMaxTokens] = {run_tile<kType, kWindows, 1>, run_tile<kType, kWindows, 2>,
                                                       run_tile<kType, kWindows, 3>, run_tile<kType, kWindows, 4>};
    return kernels[tokens - 1];
}

template <DType kType>
void pack_row(const LinearCall& call, const InterleavedShape& s, int64_t token, float* row) {
    int64_t column = 0;
    if (call.x_column_stride == 1 && s.pitch == s.m) {
        for (; column + kHalf <= call.cols; column += kHalf) {
            _mm256_storeu_ps(row + column, load8_ps<kType>(call.x, token * call.x_token_stride + column));
        }
    }
    for (; column < call.cols; ++column) {
        const int64_t place = token * call.x_token_stride + column * call.x_column_stride;
        row[column / s.m * s.pitch + column % s.m] = core::load_float(call.x, place, kType);
    }
}

template <DType kType>
void run(const LinearCall& call, const InterleavedWeight& w, const InterleavedPart& part, float* panel) {
    const InterleavedShape& s = w.shape;
    const int64_t stride = s.spans * s.span_width + 2 * kLanes;
    alignas(32) float sums[kMaxTokens * kLanes];
    for (int64_t token = part.token_begin; token < part.token_end; token += kMaxTokens) {
        const int64_t left = part.token_end - token, tokens = left < kMaxTokens ? left : kMaxTokens;
        for (int64_t i = 0; i < tokens * stride; ++i) panel[i] = 0.0f;
        for (int64_t t = 0; t < tokens; ++t) pack_row<kType>(call, s, token + t, panel + t * stride);
        const TileKernel kernel = s.pitch <= 8    ? choose<kType, 1>(tokens)
                                  : s.pitch == 16 ? choose<kType, 2>(tokens)
                                                  : choose<kType, 4>(tokens);
        for (int64_t b = part.block_begin; b < part.block_end; ++b) {
            const int64_t row = b * kLanes, lanes = block_lanes(s, b);
            const auto* values = static_cast<const char*>(w.values) + value_index(s, b, 0, 0) * core::itemsize(kType);
            kernel({&s, values, w.codes + code_place(s, b, 0, 0).index, lanes}, panel, stride, sums);
            for (int64_t t = 0; t < tokens; ++t) {
                const float* sum = sums + t * kLanes;
                store_outputs8<kType>(call, token + t, row, lanes, _mm256_load_ps(sum));
                store_outputs8<kType>(call, token + t, row + kHalf, lanes - kHalf, _mm256_load_ps(sum + kHalf));
            }
        }
    }
}

}  // namespace

void nm_linear_avx2_few(const LinearCall& call, const InterleavedWeight& weight, const InterleavedPart& part,
                        float* panel) {
    switch (weight.dtype) {
        case DType::F16: return run<DType::F16>(call, weight, part, panel);
        case DType::BF16: return run<DType::BF16>(call, weight, part, panel);
        default: return run<DType::F32>(call, weight, part, panel);
    }
}

}  // namespace sparsecore::cpu
