#include "cpu/int8_linear/tiles.h"

#include "cpu/int8_linear/tokens.h"

#if defined(SPARSECORE_HAVE_AMX)

namespace sparsecore::cpu {

bool int8_linear_tiles(const LinearCall& call, const StripSource& source, const float* scales) {
    if (call.tokens <= source.few_tokens) return false;
    const int64_t stride = offset_token_bytes(call.cols), windows = core::ceil_div(call.cols, kQuadReach);
    const auto quantise = [&](int64_t begin, int64_t end, uint8_t* values, float* token_scales) {
        int8_quantise_avx512(call, begin, end, values, token_scales);
        int8_remove_offset_amx(values, (end - begin) * stride);
    };
    const auto multiply = [&](int64_t begin, int64_t end, int64_t panel_begin, int64_t panel_end, const uint8_t* values,
                              const float* token_scales) {
        int8_tiles_amx(call, source, scales, {values, stride, token_scales, begin, end}, panel_begin, panel_end,
                       reserve_strip_scratch(windows, stride, end - begin));
    };
    constexpr double kTileSpeed = 16;  // multiply-adds in the time of one of the vector kernels
    const double work = static_cast<double>(call.tokens + kTokenPair) * static_cast<double>(call.rows) *
                        static_cast<double>(call.cols) / kTileSpeed;
    for_quantised_tokens(call, {1, stride, core::ceil_div(source.strips, source.panel_strips), work}, quantise, multiply);
    return true;
}

}  // namespace sparsecore::cpu

#endif
