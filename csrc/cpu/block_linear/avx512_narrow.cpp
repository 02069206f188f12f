// Blocks of fewer than 8 rows. Floor: one fused multiply-add for a kept weight and 16 tokens.
#include "cpu/block_linear/avx512_math.h"

namespace sparsecore::cpu {

void block_narrow_avx512(const LinearCall& call, const BlockWeight& w, const BlockPart& part,
                         const NarrowScratch& scratch) {
    switch (w.dtype) {
        case core::DType::F32: return run_narrow<Avx512Floats<core::DType::F32>>(call, w, part, scratch);
        case core::DType::F16: return run_narrow<Avx512Floats<core::DType::F16>>(call, w, part, scratch);
        default: return run_narrow<Avx512Floats<core::DType::BF16>>(call, w, part, scratch);
    }
}

}  // namespace sparsecore::cpu
