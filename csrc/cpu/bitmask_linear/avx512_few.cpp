// avx512_few.h with fp32 arithmetic.
#include "cpu/bitmask_linear/avx512_few.h"

namespace sparsecore::cpu {

namespace {

using core::DType;

struct Single {
    using Element = float;
    static constexpr DType kType = DType::F32;
    static constexpr int64_t kLanes = 16;
    static constexpr int kMostTokens = 4;

    template <int kTokens>
    static void step(const float* values, const uint8_t* columns, uint32_t lanes, const float* x, int64_t stride,
                     __m512 (&sum)[kTokens]) {
        const auto mask = static_cast<__mmask16>(lanes);
        const __m512i at = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, columns));
        const __mmask16 odd = _mm512_test_epi32_mask(at, _mm512_set1_epi32(32));
        const __mmask16 high = _mm512_test_epi32_mask(at, _mm512_set1_epi32(64));
        const __m512 weights = _mm512_maskz_loadu_ps(mask, values);
#pragma GCC unroll 4
        for (int t = 0; t < kTokens; ++t, x += stride) {
            __m512 quarter[4];
#pragma GCC unroll 4
            for (int i = 0; i < 4; ++i) {
                quarter[i] = _mm512_permutex2var_ps(_mm512_load_ps(x + 32 * i), at, _mm512_load_ps(x + 32 * i + 16));
            }
            const __m512 low = _mm512_mask_mov_ps(quarter[0], odd, quarter[1]);
            const __m512 picked = _mm512_mask_mov_ps(low, high, _mm512_mask_mov_ps(quarter[2], odd, quarter[3]));
            sum[t] = _mm512_mask3_fmadd_ps(weights, picked, sum[t], mask);
        }
    }
};

template <DType k16Bit>
struct Half {
    using Element = uint16_t;
    static constexpr DType kType = k16Bit;
    static constexpr int64_t kLanes = 32;
    static constexpr int kMostTokens = 4;

    static __m512 widen(__m256i bits) { return kType == DType::F16 ? f16_bits_to_ps(bits) : bf16_bits_to_ps(bits); }
    static __m512 low(__m512i bits) { return widen(_mm512_castsi512_si256(bits)); }
    static __m512 high(__m512i bits) { return widen(_mm512_extracti64x4_epi64(bits, 1)); }

    template <int kTokens>
    static void step(const uint16_t* values, const uint8_t* columns, uint32_t lanes, const uint16_t* x, int64_t stride,
                     __m512 (&sum)[kTokens]) {
        const __m512i at = _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(lanes, columns));
        const __mmask32 upper = _mm512_test_epi16_mask(at, _mm512_set1_epi16(64));
        const __m512i weights = _mm512_maskz_loadu_epi16(lanes, values);
#pragma GCC unroll 4
        for (int t = 0; t < kTokens; ++t, x += stride) {
            const __m512i picked = pick16(x, at, upper, lanes);
            sum[t] = _mm512_fmadd_ps(low(weights), low(picked), sum[t]);
            sum[t] = _mm512_fmadd_ps(high(weights), high(picked), sum[t]);
        }
    }
};

template <class Element>
void pack(const LinearCall& call, Element* out) {
    if (call.cols == 0) return;  // x may then be a null pointer
    const auto* x = static_cast<const Element*>(call.x);
    const int64_t stride = chunk_count(call.cols) * kChunk;
    for (int64_t t = 0; t < call.tokens; ++t, out += stride) {
        const Element* row = x + t * call.x_token_stride;
        if (call.x_column_stride == 1) {
            __builtin_memcpy(out, row, static_cast<size_t>(call.cols) * sizeof(Element));
        } else {
            for (int64_t c = 0; c < call.cols; ++c) out[c] = row[c * call.x_column_stride];
        }
        __builtin_memset(out + call.cols, 0, static_cast<size_t>(stride - call.cols) * sizeof(Element));
    }
}

}  // namespace

void bitmask_pack_few_avx512(const LinearCall& call, void* x) {
    if (call.dtype == DType::F32) {
        pack(call, static_cast<float*>(x));
    } else {
        pack(call, static_cast<uint16_t*>(x));
    }
}

void bitmask_few_rows_avx512(const LinearCall& call, const RowLists& lists, int64_t row, int64_t rows, double density,
                             const void* x) {
    switch (call.dtype) {
        case DType::F32: few_rows<Single>(call, lists, row, rows, density, x); return;
        case DType::F16: few_rows<Half<DType::F16>>(call, lists, row, rows, density, x); return;
        default: few_rows<Half<DType::BF16>>(call, lists, row, rows, density, x); return;
    }
}

}  // namespace sparsecore::cpu
