// N:M linear with AVX-512 in fp32 arithmetic: one vector is 16 outputs of one token.
//
// A span of inputs of a token sits in one register (two for m > 16). For every slot, a permutation fetches for each of
// the 16 outputs the input that its kept value belongs to, and one fused multiply-add uses it. Every output is one chain of
// additions in slot order, so its bits depend on neither the tile, nor the number of tokens, nor the threads.
//
// Floors. Compute: one permutation and one fused multiply-add for 16 kept values. On Zen 4 and 5 three pipes do both kinds,
// two of them each; Zen 4 takes a pair in 4/3 cycles (measured), so 2:4 has a limit of 1.5 times the peak of a dense kernel.
// Memory (few tokens): 4.25 bytes a kept fp32 value against 4 bytes for each dense one, so 1.88 times dense at the same
// bandwidth for 2:4; 2.25 against 2 bytes in 16-bit types, 1.78 times.
//
// fp16 is computed in fp32 too: arithmetic in fp16, where a machine has it, would round every sum.
#include "cpu/nm_linear/tile_loop.h"

namespace sparsecore::cpu {

namespace {

using core::DType;

template <DType kElement, bool kWide>
struct Floats {
    using Input = float;
    static constexpr DType kType = kElement;
    static constexpr int64_t kReach = kLanes, kSpan = kWide ? 2 * kLanes : kLanes;

    static __m512i load_codes(const uint16_t* codes, __mmask16 lanes) {
        return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, codes));
    }
    static __m512i next_codes(__m512i codes, __m128i bits) { return _mm512_srl_epi32(codes, bits); }
    static __m512 load_values(const void* values, __mmask16 lanes) { return load_ps<kType>(values, 0, lanes); }
    static __m512 multiply_add(__m512 values, __m512i index, const float* x, __m512 sum) {
        if constexpr (kWide) {
            const __m512 low = _mm512_loadu_ps(x), high = _mm512_loadu_ps(x + kLanes);
            return _mm512_fmadd_ps(values, _mm512_permutex2var_ps(low, index, high), sum);
        } else {
            return _mm512_fmadd_ps(values, _mm512_permutexvar_ps(index, _mm512_loadu_ps(x)), sum);
        }
    }
};

template <DType kType>
void run(const LinearCall& call, const InterleavedWeight& weight, const InterleavedPart& part,
         const InterleavedScratch& scratch) {
    constexpr bool kRaw = kType == DType::F32;
    if (weight.shape.span_width > kLanes) return run_part<Floats<kType, true>, kRaw>(call, weight, part, scratch);
    run_part<Floats<kType, false>, kRaw>(call, weight, part, scratch);
}

}  // namespace

void nm_linear_avx512(const LinearCall& call, const InterleavedWeight& weight, const InterleavedPart& part,
                      const InterleavedScratch& scratch) {
    switch (weight.dtype) {
        case DType::F16: return run<DType::F16>(call, weight, part, scratch);
        case DType::BF16: return run<DType::BF16>(call, weight, part, scratch);
        default: return run<DType::F32>(call, weight, part, scratch);
    }
}

}  // namespace sparsecore::cpu
