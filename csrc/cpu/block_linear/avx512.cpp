// Bands in fp32 arithmetic: fp32 and fp16 weights, and bf16 where the processor lacks AVX512-BF16 or c is odd.
//
// Floor: one fused multiply-add for 16 kept weights and one token; each takes its activation as a broadcast operand and
// shares its weights with the whole tile, so that loads stay below the two a cycle that are there.
#include "cpu/block_linear/avx512_math.h"

namespace sparsecore::cpu {

namespace {

using core::DType;

template <DType kType>
struct OneInput : Avx512Floats<kType> {
    static constexpr int kInputs = 1;
    static constexpr int64_t kWeightBytes = core::itemsize(kType);

    static void load(const char* step, __m512 (&weights)[1]) { weights[0] = load_ps<kType>(step, 0, 0xffff); }
};

// A 32-bit lane holds the bf16 weights of two inputs: each is the upper half of an fp32.
struct Bf16Pair : Avx512Floats<DType::BF16> {
    static constexpr int kInputs = 2;
    static constexpr int64_t kWeightBytes = 4;

    static void load(const char* step, __m512 (&weights)[2]) {
        const __m512i pairs = _mm512_loadu_si512(step);
        weights[0] = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
        weights[1] = _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
    }
};

}  // namespace

void block_bands_avx512(const LinearCall& call, const BlockWeight& w, const BlockPart& part, void* panel) {
    switch (w.dtype) {
        case DType::F32: return run_bands<OneInput<DType::F32>>(call, w, part, panel);
        case DType::F16: return run_bands<OneInput<DType::F16>>(call, w, part, panel);
        default: break;
    }
    if (step_inputs(w.dtype, w.block_cols) == 2) return run_bands<Bf16Pair>(call, w, part, panel);
    run_bands<OneInput<DType::BF16>>(call, w, part, panel);
}

}  // namespace sparsecore::cpu
