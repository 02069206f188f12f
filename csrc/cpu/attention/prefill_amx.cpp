// Prefill attention in bf16 on AMX tiles: 32 queries by 32 columns in four tiles of sums. The packed panels of
// prefill_kernels.h are tiles as they lie: 16 pairs by 16 columns are 16 rows of 64 bytes, a row of the panel apart.
// Everything between the two products is that of the AVX-512 kernels.
//
// Floor: a step of 32 queries, 32 columns and 32 elements of depth is 4 tdpbf16ps, 16 cycles each, and 4 tile loads.
#include "cpu/amx/tiles.h"
#include "cpu/attention/prefill_avx512.h"

namespace sparsecore::cpu {

namespace {

struct Tiles {
    using Lanes = PrefillLanes16;
    using Unit = uint16_t;
    static constexpr int64_t kRows = 32, kDepth = 32;

    static void load_queries(const PrefillProblem& p, Unit* out, int64_t head, int64_t first, int64_t count) {
        prefill_load_queries<core::DType::BF16, true>(p, out, kRows, head, first, count);
    }

    // Two strips of 16 columns or one; depth is filled up with zeros to a multiple of kDepth.
    template <int kStrips>
    static void multiply_strips(const Unit* a, int64_t a_stride, const Unit* panel, int64_t depth, float* out,
                                int64_t out_stride, bool add) {
        const int64_t out_bytes = out_stride * 4, a_bytes = a_stride * 2, panel_bytes = kPrefillBlock * 4;
        float* below = out + 16 * out_stride;
        if (add) {
            tiles::load<0>(out, out_bytes);
            tiles::load<2>(below, out_bytes);
            if constexpr (kStrips == 2) tiles::load<1>(out + 16, out_bytes);
            if constexpr (kStrips == 2) tiles::load<3>(below + 16, out_bytes);
        } else {
            tiles::zero<0>();
            tiles::zero<1>();
            tiles::zero<2>();
            tiles::zero<3>();
        }
        for (int64_t d = 0; d < depth; d += kDepth) {
            tiles::load<tiles::kActivations>(a + d, a_bytes);
            tiles::load<tiles::kWeights>(panel + d * kPrefillBlock, panel_bytes);
            tiles::load<tiles::kActivations + 1>(a + 16 * a_stride + d, a_bytes);
            tiles::multiply_bf16<0, 0>();
            tiles::multiply_bf16<1, 0>();
            if constexpr (kStrips == 2) {
                tiles::load<tiles::kWeights + 1>(panel + d * kPrefillBlock + 32, panel_bytes);
                tiles::multiply_bf16<0, 1>();
                tiles::multiply_bf16<1, 1>();
            }
        }
        tiles::store<0>(out, out_bytes);
        tiles::store<2>(below, out_bytes);
        if constexpr (kStrips == 2) tiles::store<1>(out + 16, out_bytes);
        if constexpr (kStrips == 2) tiles::store<3>(below + 16, out_bytes);
    }

    static void multiply(const Unit* a, int64_t a_stride, const Unit* panel, int64_t depth, int64_t columns, float* out,
                         int64_t out_stride, bool add) {
        for (int64_t column = 0; column < columns; column += 32) {
            if (columns - column > 16) {
                multiply_strips<2>(a, a_stride, panel + 2 * column, depth, out + column, out_stride, add);
            } else {
                multiply_strips<1>(a, a_stride, panel + 2 * column, depth, out + column, out_stride, add);
            }
        }
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
    tiles::Config config;
    for (int i = 0; i < 8; ++i) {
        config.rows[i] = tiles::kRows;
        config.row_bytes[i] = tiles::kRowBytes;
    }
    tiles::configure(config);
    prefill_run<Tiles>(p, keys, scratch, head, tile);
    tiles::release();
}

}  // namespace

PrefillKernels prefill_amx() { return {Tiles::kRows, 2, pack, run}; }

}  // namespace sparsecore::cpu
