// avx512_few.h in bf16 with AVX-512 BF16: one vdpbf16ps multiplies and adds 32 values in fp32 (products exact; subnormal
// inputs and results count as zero, as the instruction is defined).
#include "cpu/bitmask_linear/avx512_few.h"

namespace sparsecore::cpu {

namespace {

struct Pairs {
    using Element = uint16_t;
    static constexpr core::DType kType = core::DType::BF16;
    static constexpr int64_t kLanes = 32;
    static constexpr int kMostTokens = 8;

    template <int kTokens>
    static void step(const uint16_t* values, const uint8_t* columns, uint32_t lanes, const uint16_t* x, int64_t stride,
                     __m512 (&sum)[kTokens]) {
        const __m512i at = _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(lanes, columns));
        const __mmask32 upper = _mm512_test_epi16_mask(at, _mm512_set1_epi16(64));
        const auto weights = reinterpret_cast<__m512bh>(_mm512_maskz_loadu_epi16(lanes, values));
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t, x += stride) {
            sum[t] = _mm512_dpbf16_ps(sum[t], weights, reinterpret_cast<__m512bh>(pick16(x, at, upper, lanes)));
        }
    }
};

}  // namespace

void bitmask_few_rows_avx512_bf16(const LinearCall& call, const RowLists& lists, int64_t row, int64_t rows,
                                  double density, const void* x) {
    few_rows<Pairs>(call, lists, row, rows, density, x);
}

}  // namespace sparsecore::cpu
