// Bands in fp32 arithmetic. Floor: one fused multiply-add for 8 kept weights and one token.
#include "cpu/block_linear/avx2_math.h"

namespace sparsecore::cpu {

namespace {

using core::DType;

template <DType kType>
struct OneInput : Avx2Floats<kType> {
    static constexpr int kInputs = 1;
    static constexpr int64_t kWeightBytes = core::itemsize(kType);

    static void load(const char* step, __m256 (&weights)[1]) { weights[0] = load8_ps<kType>(step, 0); }
};

// A 32-bit lane holds the bf16 weights of two inputs: each is the upper half of an fp32.
struct Bf16Pair : Avx2Floats<DType::BF16> {
    static constexpr int kInputs = 2;
    static constexpr int64_t kWeightBytes = 4;

    static void load(const char* step, __m256 (&weights)[2]) {
        const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(step));
        weights[0] = _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
        weights[1] = _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
    }
};

}  // namespace

void block_bands_avx2(const LinearCall& call, const BlockWeight& w, const BlockPart& part, void* panel) {
    switch (w.dtype) {
        case DType::F32: return run_bands<OneInput<DType::F32>>(call, w, part, panel);
        case DType::F16: return run_bands<OneInput<DType::F16>>(call, w, part, panel);
        default: break;
    }
    if (step_inputs(w.dtype, w.block_cols) == 2) return run_bands<Bf16Pair>(call, w, part, panel);
    run_bands<OneInput<DType::BF16>>(call, w, part, panel);
}

void block_narrow_avx2(const LinearCall& call, const BlockWeight& w, const BlockPart& part,
                       const NarrowScratch& scratch) {
    switch (w.dtype) {
        case DType::F32: return run_narrow<Avx2Floats<DType::F32>>(call, w, part, scratch);
        case DType::F16: return run_narrow<Avx2Floats<DType::F16>>(call, w, part, scratch);
        default: return run_narrow<Avx2Floats<DType::BF16>>(call, w, part, scratch);
    }
}

}  // namespace sparsecore::cpu
