// Bands of bf16 weights in pairs, with AVX512-BF16: vdpbf16ps multiplies the pairs of 16 outputs by one pair of
// activations and adds both products in fp32 (subnormal inputs and sums count as zero, as the instruction is defined).
// x is used as it is.
//
// Floor: one vdpbf16ps for 32 kept weights and one token.
#include "cpu/block_linear/avx512_math.h"

namespace sparsecore::cpu {

namespace {

using core::DType;

struct Bf16Dot : Avx512Math {
    static constexpr int kInputs = 1;
    static constexpr int64_t kWeightBytes = 4, kWordInputs = 2;
    static constexpr bool kRaw = true;

    static void load(const char* step, Vector (&weights)[1]) { weights[0] = _mm512_loadu_ps(step); }

    static Vector multiply_add(Vector sum, Vector weight, const char* word) {
        int pair;
        __builtin_memcpy(&pair, word, 4);
        return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(weight),
                                reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair)));
    }

    static Vector load_words(const LinearCall& call, int64_t token, int64_t word) {
        const int64_t first = 2 * word, left = call.cols - first;
        const auto* x = static_cast<const uint16_t*>(call.x) + token * call.x_token_stride;
        if (call.x_column_stride == 1) {
            const auto mask = left >= 32 ? 0xffffffffu : left <= 0 ? 0u : (1u << left) - 1u;
            return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(mask, x + first));
        }
        alignas(64) uint16_t lanes[32] = {};
        for (int64_t i = 0; i < 32 && i < left; ++i) lanes[i] = x[(first + i) * call.x_column_stride];
        return _mm512_load_ps(lanes);
    }

    // vcvtneps2bf16 rounds as core::f32_to_bf16 does, except that it takes subnormal numbers for zero.
    static void store(const LinearCall& call, int64_t token, int64_t row, int64_t rows, const float* sums) {
        if (rows == 32 && is_plain(call)) {
            const __m512 low = add_bias(call, row, 0xffff, sums), high = add_bias(call, row + 16, 0xffff, sums + 16);
            constexpr int kSubnormal = 0x20;
            if (_mm512_fpclass_ps_mask(low, kSubnormal) == 0 && _mm512_fpclass_ps_mask(high, kSubnormal) == 0) {
                uint16_t* out = static_cast<uint16_t*>(call.out) + token * call.out_token_stride + row;
                _mm512_storeu_si512(out, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)));
                return;
            }
        }
        for (int64_t i = 0; i < rows; i += 16) {
            store_outputs<DType::BF16>(call, token, row + i, lanes16(rows - i), _mm512_load_ps(sums + i));
        }
    }
};

}  // namespace

void block_bands_avx512_bf16(const LinearCall& call, const BlockWeight& w, const BlockPart& part, void* panel) {
    run_bands<Bf16Dot>(call, w, part, panel);
}

}  // namespace sparsecore::cpu
