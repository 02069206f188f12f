// N:M linear in bf16 with AVX-512 BF16: as avx512.cpp, but a step is a pair of slots. One permutation of 16-bit
// elements fetches both inputs of 16 outputs out of 32, and one vdpbf16ps multiplies and adds both in fp32 (products
// exact; subnormal inputs and results count as zero, as the instruction is defined).
//
// Floor: half the instructions of the fp32 kernel for the same kept values; Zen 4 takes a permutation and a vdpbf16ps in
// 4/3 cycles. A processor that runs vdpbf16ps at half the rate of a fused multiply-add gains nothing over fp32 arithmetic
// for many tokens.
#include "cpu/nm_linear/tile_loop.h"

namespace sparsecore::cpu {

namespace {

struct Pairs {
    using Input = uint16_t;
    static constexpr core::DType kType = core::DType::BF16;
    static constexpr int64_t kReach = 2 * kLanes, kSpan = kReach;

    static __m512i load_codes(const uint16_t* codes, __mmask16 lanes) { return _mm512_maskz_loadu_epi32(lanes, codes); }
    static __m512i next_codes(__m512i codes, __m128i bits) { return _mm512_srl_epi16(codes, bits); }
    static __m512 load_values(const void* values, __mmask16 lanes) { return _mm512_maskz_loadu_ps(lanes, values); }
    static __m512 multiply_add(__m512 values, __m512i index, const uint16_t* x, __m512 sum) {
        const __m512i picked = _mm512_permutexvar_epi16(index, _mm512_loadu_si512(x));
        return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(values), reinterpret_cast<__m512bh>(picked));
    }
};

}  // namespace

void nm_linear_avx512_bf16(const LinearCall& call, const InterleavedWeight& weight, const InterleavedPart& part,
                           const InterleavedScratch& scratch) {
    run_part<Pairs, true>(call, weight, part, scratch);
}

}  // namespace sparsecore::cpu
