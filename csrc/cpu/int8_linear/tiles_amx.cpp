#include "cpu/amx/strip_loop.h"
#include "cpu/int8_linear/output_avx512.h"
#include "cpu/int8_linear/tiles.h"

namespace sparsecore::cpu {

namespace {

struct TileCall {
    const LinearCall& call;
    const float* scales;
    const OffsetTokens& tokens;
    int64_t cols;
};

struct Int8 {
    static constexpr int64_t kItemSize = 1;
    template <int kTokens, int kOutputs>
    static void multiply() { tiles::multiply_int8<kTokens, kOutputs>(); }

    static void finish(const TileCall& call, int64_t token, int64_t tokens, int64_t row, int strips, const uint8_t* sums) {
        for (int64_t t = token; t < token + tokens; ++t, sums += kSumStride) {
            for (int s = 0; s < strips; ++s) {
                const int64_t first = row + s * kStripOutputs;
                store_int8_sums(call.call, t, first, _mm512_load_si512(sums + s * tiles::kRowBytes),
                                call.tokens.scales[t - call.tokens.begin], call.scales + first);
            }
        }
    }
};

}  // namespace

void int8_remove_offset_amx(uint8_t* values, int64_t bytes) {
    const __m512i sign = _mm512_set1_epi8(-128);
    for (int64_t i = 0; i < bytes; i += 64) {
        _mm512_storeu_si512(values + i, _mm512_xor_si512(_mm512_loadu_si512(values + i), sign));
    }
}

void int8_tiles_amx(const LinearCall& call, const StripSource& source, const float* scales, const OffsetTokens& tokens,
                    int64_t panel_begin, int64_t panel_end, const StripScratch& scratch) {
    const TileCall tile_call{call, scales, tokens, call.cols};
    const int64_t block = strip_token_block(tokens.stride);
    for (int64_t token = tokens.begin; token < tokens.end; token += block) {
        const int64_t left = tokens.end - token, count = left < block ? left : block;
        const TileInput input{tokens.values + (token - tokens.begin) * tokens.stride, tokens.stride};
        run_block<Int8>(tile_call, source, input, token, count, panel_begin, panel_end, scratch);
    }
}

}  // namespace sparsecore::cpu
