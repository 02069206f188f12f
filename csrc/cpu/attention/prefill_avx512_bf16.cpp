// Prefill attention in bf16 with AVX-512 BF16: a vdpbf16ps adds the products of pairs of dimensions (scores) or of pairs
// of keys (values) of 16 columns in fp32. Weights are rounded to bf16 for the values only: token scores and the sum that
// divides have them in fp32. Subnormal inputs and results count as zero, as the instruction is defined.
//
// Floor: Lq * Lk * (D + Dv) / 32 vdpbf16ps a head; Zen 4 takes one a cycle.
#include "cpu/attention/prefill_avx512.h"

namespace sparsecore::cpu {

namespace {

struct Pairs {
    using Lanes = PrefillLanes16;
    using Unit = uint16_t;
    static constexpr int64_t kRows = 6;

    static void load_queries(const PrefillProblem& p, Unit* out, int64_t head, int64_t first, int64_t count) {
        prefill_load_queries<core::DType::BF16, true>(p, out, kRows, head, first, count);
    }
    static __m512 step(__m512 sum, __m512 a, __m512 b) {
        return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
    }
    static void multiply(const Unit* a, int64_t a_stride, const Unit* panel, int64_t depth, int64_t columns, float* out,
                         int64_t out_stride, bool add) {
        prefill_multiply_panel<Pairs>(reinterpret_cast<const float*>(a), a_stride / 2,
                                      reinterpret_cast<const float*>(panel), (depth + 1) / 2, columns, out, out_stride,
                                      add);
    }
    static void narrow(const float* row, Unit* out, int64_t begin) {
        for (int64_t j = begin; j < begin + kPrefillBlock; j += 32) {
            const auto pair = _mm512_cvtne2ps_pbh(_mm512_load_ps(row + j + 16), _mm512_load_ps(row + j));
            _mm512_store_si512(out + j, reinterpret_cast<__m512i>(pair));
        }
    }
    static __m512 store(void* data, int64_t index, int64_t left, __m512 x) {
        return prefill_store_ps<core::DType::BF16>(data, index, left, x);
    }
};

bool pack(const PrefillProblem& p, const PrefillKeys& keys, int64_t key_head, int64_t block) {
    return prefill_pack<core::DType::BF16, true>(p, keys, key_head, block);
}

void run(const PrefillProblem& p, const PrefillKeys& keys, PrefillScratch& scratch, int64_t head, int64_t tile) {
    prefill_run<Pairs>(p, keys, scratch, head, tile);
}

}  // namespace

PrefillKernels prefill_avx512_bf16() { return {Pairs::kRows, 2, pack, run}; }

}  // namespace sparsecore::cpu
