// The struct Math of band_loop.h and narrow_loop.h in 8 lanes. fp32 arithmetic for every type.
#pragma once

#include "cpu/block_linear/narrow_loop.h"
#include "cpu/common/avx2.h"

namespace sparsecore::cpu {

// Unnamed, so that nothing instantiated with these types can be linked into other code.
namespace {

template <core::DType kType>
struct Avx2Floats {
    using Vector = __m256;
    static constexpr int kLanes = 8, kTokens[2] = {8, 6};
    static constexpr int64_t kWordInputs = 1;
    static constexpr bool kRaw = kType == core::DType::F32;

    static Vector zero() { return _mm256_setzero_ps(); }
    static Vector load(const float* from) { return _mm256_loadu_ps(from); }
    static Vector load_values(const void* values, int64_t index) { return load8_ps<kType>(values, index); }
    static void keep(float* to, Vector value) { _mm256_storeu_ps(to, value); }
    static Vector add(Vector a, Vector b) { return _mm256_add_ps(a, b); }
    static Vector multiply_add(Vector sum, Vector a, Vector b) { return _mm256_fmadd_ps(a, b, sum); }
    static Vector multiply_add(Vector sum, Vector a, const char* word) {
        return _mm256_fmadd_ps(a, _mm256_broadcast_ss(reinterpret_cast<const float*>(word)), sum);
    }
    static void transpose(Vector (&block)[8]) { transpose8(block); }

    static Vector load_words(const LinearCall& call, int64_t token, int64_t word) {
        const int64_t left = call.cols - word;
        if (call.x_column_stride == 1) return load8_ps<kType>(call.x, token * call.x_token_stride + word, left);
        alignas(32) float lanes[8] = {};
        for (int64_t i = 0; i < 8 && i < left; ++i) lanes[i] = load_x(call, token, word + i);
        return _mm256_load_ps(lanes);
    }

    static void store(const LinearCall& call, int64_t token, int64_t row, int64_t rows, const float* sums) {
        for (int64_t i = 0; i < rows; i += 8) {
            store_outputs8<kType>(call, token, row + i, rows - i, _mm256_loadu_ps(sums + i));
        }
    }
};

}  // namespace

}  // namespace sparsecore::cpu
