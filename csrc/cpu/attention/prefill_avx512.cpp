// Prefill attention with AVX-512 in fp32 arithmetic, for all three types.
//
// Floor: Lq * Lk * (D + Dv) / 16 fused multiply-adds a head; a tile of 6 queries and 64 columns loads 10 vectors for 24.
#include "cpu/attention/prefill_avx512.h"

namespace sparsecore::cpu {

namespace {

using core::DType;

template <DType kType>
struct Floats {
    using Lanes = PrefillLanes16;
    using Unit = float;
    static constexpr int64_t kRows = 6;

    static void load_queries(const PrefillProblem& p, Unit* out, int64_t head, int64_t first, int64_t count) {
        prefill_load_queries<kType, false>(p, out, kRows, head, first, count);
    }
    static __m512 step(__m512 sum, __m512 a, __m512 b) { return _mm512_fmadd_ps(a, b, sum); }
    static void multiply(const Unit* a, int64_t a_stride, const Unit* panel, int64_t depth, int64_t columns, float* out,
                         int64_t out_stride, bool add) {
        prefill_multiply_panel<Floats>(a, a_stride, panel, depth, columns, out, out_stride, add);
    }
    static void narrow(const float*, Unit*, int64_t) {}  // the weights are the scores
    static __m512 store(void* data, int64_t index, int64_t left, __m512 x) {
        return prefill_store_ps<kType>(data, index, left, x);
    }
    static bool pack(const PrefillProblem& p, const PrefillKeys& keys, int64_t key_head, int64_t block) {
        return prefill_pack<kType, false>(p, keys, key_head, block);
    }
};

bool pack(const PrefillProblem& p, const PrefillKeys& keys, int64_t key_head, int64_t block) {
    switch (p.dtype) {
        case DType::F16: return Floats<DType::F16>::pack(p, keys, key_head, block);
        case DType::BF16: return Floats<DType::BF16>::pack(p, keys, key_head, block);
        default: return Floats<DType::F32>::pack(p, keys, key_head, block);
    }
}

void run(const PrefillProblem& p, const PrefillKeys& keys, PrefillScratch& scratch, int64_t head, int64_t tile) {
    switch (p.dtype) {
        case DType::F16: return prefill_run<Floats<DType::F16>>(p, keys, scratch, head, tile);
        case DType::BF16: return prefill_run<Floats<DType::BF16>>(p, keys, scratch, head, tile);
        default: return prefill_run<Floats<DType::F32>>(p, keys, scratch, head, tile);
    }
}

}  // namespace

PrefillKernels prefill_avx512() { return {Floats<DType::F32>::kRows, 4, pack, run}; }

}  // namespace sparsecore::cpu
