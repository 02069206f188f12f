// What is done with a row of scores or probabilities: softmax, importance, selection.
#include "cpu/attention/decode/avx512_tables.h"
#include "cpu/common/avx512.h"

namespace sparsecore::cpu {

namespace {

constexpr float kInfinity = __builtin_inff();

// 2^x for x <= 0; 0 below -149, NaN stays. x = n + f with |f| <= 1/2.
__m512 exp2_ps(__m512 x) {
    x = _mm512_max_ps(_mm512_set1_ps(-200.0f), x);  // NaN passes as the second operand
    const __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 f = _mm512_sub_ps(x, n);
    __m512 p = _mm512_set1_ps(kDecodeExp2[5]);
#pragma GCC unroll 5
    for (int i = 4; i >= 0; --i) p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(kDecodeExp2[i]));
    return _mm512_scalef_ps(_mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f)), n);
}

// Scales of rows i ... i + 15.
__m512 scales_of(const DecodeScoring& scoring, const DecodeRows& rows, int64_t i, __mmask16 lanes) {
    if (scoring.scales == nullptr) return _mm512_set1_ps(1.0f);
    if (rows.list == nullptr && scoring.scale_stride == 4) {
        return _mm512_maskz_loadu_ps(lanes, scoring.scales + (rows.first + i) * 4);
    }
    const __m512i places = _mm512_add_epi32(_mm512_set1_epi32(static_cast<int>(rows.first + i)),
                                            _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    const __m512i slots = rows.list == nullptr ? places : _mm512_maskz_loadu_epi32(lanes, rows.list + i);
    if (scoring.scale_stride == 4) {
        return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), lanes, slots, scoring.scales, 4);
    }
    alignas(64) float scales[16] = {};
    for (int lane = 0; lane < 16 && (lanes >> lane & 1) != 0; ++lane) {
        __builtin_memcpy(scales + lane, scoring.scales + rows.slot(i + lane) * scoring.scale_stride, 4);
    }
    return _mm512_load_ps(scales);
}

DecodeSums softmax(const DecodeScoring& scoring, const DecodeRows& rows, const float* products, float* p) {
    const __m512 weight = _mm512_set1_ps(scoring.weight), addend = _mm512_set1_ps(scoring.addend);
    const __m512 factor = _mm512_set1_ps(scoring.factor), lowest = _mm512_set1_ps(-kInfinity);
    __m512 most[2] = {lowest, lowest};
    for (int64_t i = 0; i < rows.count; i += 16) {
        const __mmask16 lanes = lanes16(rows.count - i);
        const __m512 product = _mm512_fmadd_ps(_mm512_loadu_ps(products + i), weight, addend);
        __m512 score = _mm512_mul_ps(_mm512_mul_ps(product, factor), scales_of(scoring, rows, i, lanes));
        score = _mm512_mask_mov_ps(lowest, lanes, score);
        _mm512_storeu_ps(p + i, score);
        most[i / 16 % 2] = _mm512_max_ps(score, most[i / 16 % 2]);
    }
    const float largest = _mm512_reduce_max_ps(_mm512_max_ps(most[0], most[1]));
    __m512 total[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    int64_t i = 0;
    for (; i + 32 <= rows.count; i += 32) {
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
            float* place = p + i + 16 * half;
            const __m512 power = exp2_ps(_mm512_sub_ps(_mm512_loadu_ps(place), _mm512_set1_ps(largest)));
            _mm512_storeu_ps(place, power);
            total[half] = _mm512_add_ps(total[half], power);
        }
    }
    for (; i < rows.count; i += 16) {
        const __m512 power = exp2_ps(_mm512_sub_ps(_mm512_loadu_ps(p + i), _mm512_set1_ps(largest)));
        _mm512_storeu_ps(p + i, power);
        total[0] = _mm512_add_ps(total[0], power);
    }
    return {largest, _mm512_reduce_add_ps(_mm512_add_ps(total[0], total[1]))};
}

void token_scores(const float* p, int64_t n, float unit, int64_t* out) {
    for (int64_t i = 0; i < n; i += 16) {
        const __mmask16 lanes = lanes16(n - i);
        const __m512 score = _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, p + i), _mm512_set1_ps(unit));
        const __mmask16 numbers = _mm512_cmp_ps_mask(score, score, _CMP_ORD_Q);
        const __m512i rounded = _mm512_maskz_cvt_roundps_epi32(numbers, score, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        const __m512i low = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(rounded));
        const __m512i high = _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(rounded, 1));
        _mm512_mask_storeu_epi64(out + i, static_cast<__mmask8>(lanes), low);
        _mm512_mask_storeu_epi64(out + i + 8, static_cast<__mmask8>(lanes >> 8), high);
    }
}

void collect(const float* p, int64_t n, uint32_t bits, int64_t ties, int32_t* places, float* values) {
    const __m512i pivot = _mm512_set1_epi32(static_cast<int32_t>(bits));
    __m512i place = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (int64_t i = 0; i < n; i += 16, place = _mm512_add_epi32(place, _mm512_set1_epi32(16))) {
        const __mmask16 lanes = lanes16(n - i);
        const __m512i own = _mm512_maskz_loadu_epi32(lanes, p + i);
        __mmask16 take = _mm512_mask_cmpge_epu32_mask(lanes, own, pivot);
        if (ties == 0) {
            take = _mm512_mask_cmpgt_epu32_mask(lanes, own, pivot);
        } else {
            const unsigned equal = _mm512_mask_cmpeq_epu32_mask(lanes, own, pivot);
            const int64_t count = _mm_popcnt_u32(equal);
            // The first ones that still count, by their bits from below.
            if (count > ties) take = static_cast<__mmask16>(take & ~(equal & ~_pdep_u32((1u << ties) - 1u, equal)));
            ties -= count > ties ? ties : count;
        }
        _mm512_storeu_si512(places, _mm512_maskz_compress_epi32(take, place));
        _mm512_storeu_si512(values, _mm512_maskz_compress_epi32(take, own));
        const int64_t taken = _mm_popcnt_u32(take);
        places += taken;
        values += taken;
    }
}

}  // namespace

DecodeKernels decode_avx512() {
    DecodeKernels table{};
    table.softmax = softmax;
    table.token_scores = token_scores;
    table.collect = collect;
    decode_products_avx512(table);
    decode_values_avx512(table);
    return table;
}

}  // namespace sparsecore::cpu
