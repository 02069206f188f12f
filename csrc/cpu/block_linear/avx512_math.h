// What both AVX-512 files share of the struct Math that band_loop.h describes.
#pragma once

#include "cpu/block_linear/narrow_loop.h"
#include "cpu/common/avx512_output.h"

namespace sparsecore::cpu {

// Unnamed, so that nothing instantiated with these types can be linked into other code.
namespace {

struct Avx512Math {
    using Vector = __m512;
    static constexpr int kLanes = 16, kTokens[2] = {16, 14};

    static Vector zero() { return _mm512_setzero_ps(); }
    static Vector load(const float* from) { return _mm512_loadu_ps(from); }
    static Vector add(Vector a, Vector b) { return _mm512_add_ps(a, b); }
    static void keep(float* to, Vector value) { _mm512_storeu_ps(to, value); }
    static void transpose(Vector (&block)[16]) { transpose16(block); }

    // Outputs without an activation are worth an inlined end.
    static bool is_plain(const LinearCall& call) {
        return call.activation == Activation::None && call.out_row_stride == 1;
    }
    static Vector add_bias(const LinearCall& call, int64_t row, __mmask16 mask, const float* sums) {
        const Vector sum = _mm512_load_ps(sums);
        return call.bias == nullptr ? sum : _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, call.bias + row));
    }
};

// Activations as fp32.
template <core::DType kType>
struct Avx512Floats : Avx512Math {
    static constexpr int64_t kWordInputs = 1;
    static constexpr bool kRaw = kType == core::DType::F32;

    static Vector multiply_add(Vector sum, Vector a, Vector b) { return _mm512_fmadd_ps(a, b, sum); }
    static Vector multiply_add(Vector sum, Vector a, const char* word) {
        return _mm512_fmadd_ps(a, _mm512_set1_ps(*reinterpret_cast<const float*>(word)), sum);
    }
    static Vector load_values(const void* values, int64_t index) { return load_ps<kType>(values, index, 0xffff); }

    static Vector load_words(const LinearCall& call, int64_t token, int64_t word) {
        if (call.x_column_stride == 1) {
            return load_ps<kType>(call.x, token * call.x_token_stride + word, lanes16(call.cols - word));
        }
        alignas(64) float lanes[16] = {};
        for (int64_t i = 0; i < 16 && word + i < call.cols; ++i) lanes[i] = load_x(call, token, word + i);
        return _mm512_load_ps(lanes);
    }

    static void store(const LinearCall& call, int64_t token, int64_t row, int64_t rows, const float* sums) {
        for (int64_t i = 0; i < rows; i += 16) {
            const __mmask16 mask = lanes16(rows - i);
            if (is_plain(call)) {
                const int64_t place = token * call.out_token_stride + row + i;
                store_ps<kType>(call.out, place, mask, add_bias(call, row + i, mask, sums + i));
            } else {
                store_outputs<kType>(call, token, row + i, mask, _mm512_load_ps(sums + i));
            }
        }
    }
};

}  // namespace

}  // namespace sparsecore::cpu
