// Prefill attention with AVX2 in fp32 arithmetic: prefill_avx512.cpp on vectors of 8, 6 queries by 16 columns in registers.
#include "cpu/attention/prefill_tile.h"
#include "cpu/common/avx2.h"

namespace sparsecore::cpu {

namespace {

using core::DType;

// The counterparts of PrefillLanes16 (prefill_avx512.h).
struct Lanes8 {
    using Float = __m256;
    using Int = __m256i;
    static constexpr int kLanes = 8;

    static Float set(float x) { return _mm256_set1_ps(x); }
    static Float load(const float* from) { return _mm256_load_ps(from); }
    static void store(float* to, Float x) { _mm256_store_ps(to, x); }
    static Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
    static Float mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
    static Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
    static float sum(Float x) {
        __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
        half = _mm_add_ps(half, _mm_movehl_ps(half, half));
        return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
    }
    static float largest(Float x) {
        __m128 half = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
        half = _mm_max_ps(half, _mm_movehl_ps(half, half));
        return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
    }

    // Vector v of a word of bits: all bits of the lanes whose bit is set.
    static Int mask(uint64_t word, int v) {
        const Int lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
        return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(static_cast<int>(word >> (8 * v) & 0xff)), lane), lane);
    }
    static Float keep(Int mask, Float x) { return _mm256_and_ps(_mm256_castsi256_ps(mask), x); }
    static Float max_where(Int mask, Float a, Float b) {
        return _mm256_blendv_ps(a, _mm256_max_ps(a, b), _mm256_castsi256_ps(mask));
    }
    static uint64_t bits(const uint8_t* mask, int64_t count) {
        uint64_t word = 0;
        int64_t j = 0;
        for (; j + 32 <= count && j < 64; j += 32) {
            const Int bytes = _mm256_loadu_si256(reinterpret_cast<const Int*>(mask + j));
            const Int zero = _mm256_cmpeq_epi8(bytes, _mm256_setzero_si256());
            word |= static_cast<uint64_t>(~static_cast<uint32_t>(_mm256_movemask_epi8(zero))) << j;
        }
        for (; j < count && j < 64; ++j) word |= static_cast<uint64_t>(mask[j] != 0) << j;
        return word;
    }
    static Float exp2(Float x) {
        x = _mm256_max_ps(set(-200.0f), x);
        const Float n = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        const Float r = _mm256_sub_ps(x, n);
        Float p = set(0.001326472731307149f);
        p = fma(p, r, set(0.009671512991189957f));
        p = fma(p, r, set(0.05550733581185341f));
        p = fma(p, r, set(0.24022242426872253f));
        p = fma(p, r, set(0.6931470036506653f));
        p = fma(p, r, set(1.0f));
        // 2^n in two factors: n goes down to -200.
        const Int power = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(power, 1), bias = _mm256_set1_epi32(127);
        const Int first = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
        const Int second = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(power, half), bias), 23);
        return mul(mul(p, _mm256_castsi256_ps(first)), _mm256_castsi256_ps(second));
    }

    static Int load_int(const int32_t* from) { return _mm256_load_si256(reinterpret_cast<const Int*>(from)); }
    static void store_int(int32_t* to, Int x) { _mm256_store_si256(reinterpret_cast<Int*>(to), x); }
    static Int add_int(Int a, Int b) { return _mm256_add_epi32(a, b); }
    static Int set_int(uint32_t x) { return _mm256_set1_epi32(static_cast<int>(x)); }
    static Int bits_of(Float x) { return _mm256_castps_si256(x); }

    static Int reached(const float* from, int32_t bound) {
        const Int x = _mm256_load_si256(reinterpret_cast<const Int*>(from));
        return _mm256_cmpgt_epi32(x, _mm256_set1_epi32(bound - 1));
    }
    static int64_t reaching(const float* row, const int32_t* active, int64_t count, int32_t bound) {
        Int sum = _mm256_setzero_si256();
        for (int64_t a = 0; a < count; ++a) {
            for (int64_t j = 0; j < kPrefillBlock; j += 8) {
                sum = _mm256_sub_epi32(sum, reached(row + active[a] * kPrefillBlock + j, bound));
            }
        }
        alignas(32) int32_t lanes[8];
        store_int(lanes, sum);
        int64_t total = 0;
        for (int32_t lane : lanes) total += lane;
        return total;
    }
    static uint64_t reach_bits(const float* from, int32_t bound) {
        return static_cast<uint64_t>(_mm256_movemask_ps(_mm256_castsi256_ps(reached(from, bound))));
    }

    static Int no_units() { return _mm256_setzero_si256(); }
    static Int add_units(Int sum, Float x) {
        const Float size = mul(_mm256_andnot_ps(set(-0.0f), x), set(kScoreOne));
        // What does not fit, and NaN, converts to the sign bit alone.
        const Int large = _mm256_castps_si256(_mm256_cmp_ps(size, set(0x1p31f), _CMP_GE_OQ));
        const Int number = _mm256_castps_si256(_mm256_cmp_ps(size, size, _CMP_ORD_Q));
        Int units = _mm256_blendv_epi8(_mm256_cvtps_epi32(size), _mm256_set1_epi32(kLargestOutput), large);
        units = _mm256_and_si256(units, number);
        sum = _mm256_add_epi64(sum, _mm256_cvtepu32_epi64(_mm256_castsi256_si128(units)));
        return _mm256_add_epi64(sum, _mm256_cvtepu32_epi64(_mm256_extracti128_si256(units, 1)));
    }
    static int64_t sum_units(Int sum) {
        alignas(32) int64_t lanes[4];
        _mm256_store_si256(reinterpret_cast<Int*>(lanes), sum);
        return lanes[0] + lanes[1] + lanes[2] + lanes[3];
    }
};

template <int kGroup, int kVectors>
void multiply_rows(const float* a, int64_t a_stride, const float* panel, int64_t depth, float* out, int64_t out_stride,
                   bool add) {
    __m256 sum[kGroup][kVectors];
#pragma GCC unroll 6
    for (int i = 0; i < kGroup; ++i) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) {
            sum[i][v] = add ? _mm256_load_ps(out + i * out_stride + 8 * v) : _mm256_setzero_ps();
        }
    }
    for (int64_t d = 0; d < depth; ++d, panel += kPrefillBlock) {
        __m256 b[kVectors];
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) b[v] = _mm256_load_ps(panel + 8 * v);
#pragma GCC unroll 6
        for (int i = 0; i < kGroup; ++i) {
            const __m256 unit = _mm256_broadcast_ss(a + i * a_stride + d);
#pragma GCC unroll 2
            for (int v = 0; v < kVectors; ++v) sum[i][v] = _mm256_fmadd_ps(unit, b[v], sum[i][v]);
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < kGroup; ++i) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) _mm256_store_ps(out + i * out_stride + 8 * v, sum[i][v]);
    }
}

template <DType kType>
struct Floats {
    using Lanes = Lanes8;
    using Unit = float;
    static constexpr int64_t kRows = 6;

    static void load_queries(const PrefillProblem& p, Unit* out, int64_t head, int64_t first, int64_t count) {
        // A negative scale turns the signs of the queries: the largest score then comes from the largest product.
        const __m256 sign = _mm256_set1_ps(p.scale < 0.0f ? -0.0f : 0.0f);
        const int64_t tile = prefill_offset(p.q, p.heads, head, first);
        for (int64_t i = 0; i < kRows; ++i) {
            const int64_t query = tile + i * p.q.token_stride;
            for (int64_t d = 0; d < padded_width(p); d += 8) {
                const int64_t left = i < count ? p.width - d : 0;
                const __m256 x = left > 0 ? load8_ps<kType>(p.q.data, query + d, left) : _mm256_setzero_ps();
                _mm256_store_ps(out + i * padded_width(p) + d, _mm256_xor_ps(x, sign));
            }
        }
    }
    static void multiply(const Unit* a, int64_t a_stride, const Unit* panel, int64_t depth, int64_t columns, float* out,
                         int64_t out_stride, bool add) {
        constexpr int kGroup = 6;
        for (int64_t column = 0; column < columns; column += 16) {
            for (int64_t i = 0; i < kRows; i += kGroup) {
                const float* rows = a + i * a_stride;
                float* place = out + i * out_stride + column;
                if (columns - column > 8) {
                    multiply_rows<kGroup, 2>(rows, a_stride, panel + column, depth, place, out_stride, add);
                } else {
                    multiply_rows<kGroup, 1>(rows, a_stride, panel + column, depth, place, out_stride, add);
                }
            }
        }
    }
    static void narrow(const float*, Unit*, int64_t) {}  // the weights are the scores
    static __m256 store(void* data, int64_t index, int64_t left, __m256 x) {
        store8_ps<kType>(data, index, left, x);
        if constexpr (kType == DType::F32) return x;
        if constexpr (kType == DType::BF16) return bits_to_ps<kType>(ps_to_bf16_bits8(x));
        return bits_to_ps<DType::F16>(_mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }

    static void pack_keys(const PrefillProblem& p, const PrefillKeys& keys, int64_t key_head, int64_t block) {
        float* panel = static_cast<float*>(keys.keys) + block * kPrefillBlock * padded_width(p);
        for (int64_t d = 0; d < padded_width(p); d += 8) {
            for (int64_t group = 0; group < kPrefillBlock; group += 8) {
                __m256 columns[8];
                for (int64_t i = 0; i < 8; ++i) {
                    const int64_t key = block * kPrefillBlock + group + i;
                    const int64_t left = key < p.keys ? p.width - d : 0;
                    columns[i] = _mm256_setzero_ps();
                    if (left > 0) {
                        columns[i] = load8_ps<kType>(p.k.data, prefill_offset(p.k, p.key_heads, key_head, key) + d, left);
                    }
                }
                transpose8(columns);
                for (int64_t i = 0; i < 8; ++i) _mm256_store_ps(panel + (d + i) * kPrefillBlock + group, columns[i]);
            }
        }
    }
    static bool pack_values(const PrefillProblem& p, const PrefillKeys& keys, int64_t key_head, int64_t block) {
        __m256 odd = _mm256_setzero_ps();
        for (int64_t key = block * kPrefillBlock; key < (block + 1) * kPrefillBlock; ++key) {
            for (int64_t column = 0; column < panels(p) * kPrefillBlock; column += 8) {
                const int64_t left = key < p.keys ? p.value_width - column : 0;
                __m256 x = _mm256_setzero_ps();
                if (left > 0) {
                    x = load8_ps<kType>(p.v.data, prefill_offset(p.v, p.key_heads, key_head, key) + column, left);
                }
                // inf - inf and NaN are no numbers.
                const __m256 spoiled = _mm256_cmp_ps(_mm256_sub_ps(x, x), _mm256_setzero_ps(), _CMP_UNORD_Q);
                odd = _mm256_or_ps(odd, spoiled);
                const int64_t row = column / kPrefillBlock * padded_keys(p) + key;
                float* place = static_cast<float*>(keys.values) + row * kPrefillBlock + column % kPrefillBlock;
                _mm256_store_ps(place, _mm256_andnot_ps(spoiled, x));
            }
        }
        return _mm256_movemask_ps(odd) == 0;
    }
    static bool pack(const PrefillProblem& p, const PrefillKeys& keys, int64_t key_head, int64_t block) {
        pack_keys(p, keys, key_head, block);
        return pack_values(p, keys, key_head, block);
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

PrefillKernels prefill_avx2() { return {Floats<DType::F32>::kRows, 4, pack, run}; }

}  // namespace sparsecore::cpu
