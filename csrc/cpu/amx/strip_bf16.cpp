// bf16 on AMX: tdpbf16ps, fp32 sums.
#include "cpu/amx/strip_loop.h"
#include "cpu/common/avx512.h"

namespace sparsecore::cpu {

namespace {

using core::DType;

// Bias, activation, rounding and store of 32 outputs (or the first `rows` of them) of one token.
void finish_token(const LinearCall& call, int64_t token, int64_t row, int64_t rows, const float* sums) {
    const __mmask16 low_mask = lanes16(rows), high_mask = lanes16(rows - 16);
    __m512 low = _mm512_maskz_loadu_ps(low_mask, sums), high = _mm512_maskz_loadu_ps(high_mask, sums + 16);
    if (call.bias != nullptr) {
        low = _mm512_add_ps(low, _mm512_maskz_loadu_ps(low_mask, call.bias + row));
        high = _mm512_add_ps(high, _mm512_maskz_loadu_ps(high_mask, call.bias + row + 16));
    }
    if (call.activation != Activation::None) {
        low = activate_ps(low, call.activation);
        high = activate_ps(high, call.activation);
    }
    const auto rounded = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
    uint16_t* out = static_cast<uint16_t*>(call.out) + token * call.out_token_stride + row * call.out_row_stride;
    if (call.out_row_stride == 1) {
        _mm512_mask_storeu_epi16(out, static_cast<__mmask32>(low_mask | static_cast<uint32_t>(high_mask) << 16), rounded);
        return;
    }
    alignas(64) uint16_t values[32];
    _mm512_store_si512(values, rounded);
    for (int64_t i = 0; i < rows; ++i) out[i * call.out_row_stride] = values[i];
}

struct Bf16 {
    static constexpr int64_t kItemSize = 2;
    template <int kTokens, int kOutputs>
    static void multiply() { tiles::multiply_bf16<kTokens, kOutputs>(); }

    static void finish(const LinearCall& call, int64_t token, int64_t tokens, int64_t row, int strips,
                       const uint8_t* sums) {
        const int64_t left = call.rows - row, most = strips * kStripOutputs, rows = left < most ? left : most;
        for (int64_t t = 0; t < tokens; ++t) {
            finish_token(call, token + t, row, rows, reinterpret_cast<const float*>(sums + t * kSumStride));
        }
    }
};

// Exponents of all ones: infinities and NaN.
uint32_t not_finite(__m512i values) {
    const __m512i exponent = _mm512_set1_epi16(0x7f80);
    return _mm512_cmpeq_epi16_mask(_mm512_and_si512(values, exponent), exponent);
}

__mmask32 lanes32(int64_t count) { return count >= 32 ? 0xffffffffu : (1u << count) - 1u; }

// Tokens as rows of whole windows, zero past the last column.
TileInput pack(const LinearCall& call, int64_t token, int64_t count, uint8_t* out) {
    const int64_t columns = (call.cols + 31) / 32 * 32;
    for (int64_t t = 0; t < count; ++t) {
        const auto* x = static_cast<const uint16_t*>(call.x) + (token + t) * call.x_token_stride;
        auto* row = reinterpret_cast<uint16_t*>(out) + t * columns;
        if (call.x_column_stride == 1) {
            for (int64_t c = 0; c < call.cols; c += 32) {
                _mm512_store_si512(row + c, _mm512_maskz_loadu_epi16(lanes32(call.cols - c), x + c));
            }
        } else {
            for (int64_t c = 0; c < columns; ++c) row[c] = c < call.cols ? x[c * call.x_column_stride] : uint16_t{0};
        }
    }
    return {out, columns * 2};
}

}  // namespace

bool all_finite_bf16(const LinearCall& call, int64_t token_begin, int64_t token_end) {
    for (int64_t token = token_begin; token < token_end; ++token) {
        const auto* x = static_cast<const uint16_t*>(call.x) + token * call.x_token_stride;
        uint32_t found = 0;
        if (call.x_column_stride == 1) {
            for (int64_t c = 0; c < call.cols; c += 32) {
                found |= not_finite(_mm512_maskz_loadu_epi16(lanes32(call.cols - c), x + c));
            }
        } else {
            for (int64_t c = 0; c < call.cols; ++c) found |= (x[c * call.x_column_stride] & 0x7f80) == 0x7f80;
        }
        if (found != 0) return false;
    }
    return true;
}

void strip_linear_amx_bf16(const LinearCall& call, const StripSource& source, const StripPart& part,
                           const StripScratch& scratch) {
    const int64_t block = strip_token_block(call.cols * 2);
    for (int64_t token = part.token_begin; token < part.token_end; token += block) {
        const int64_t left = part.token_end - token, count = left < block ? left : block;
        TileInput input;
        if (scratch.x == nullptr) {
            input.data = reinterpret_cast<const uint8_t*>(static_cast<const uint16_t*>(call.x) + token * call.x_token_stride);
            input.stride = call.x_token_stride * 2;
        } else {
            input = pack(call, token, count, scratch.x);
        }
        run_block<Bf16>(call, source, input, token, count, part.panel_begin, part.panel_end, scratch);
    }
}

}  // namespace sparsecore::cpu
