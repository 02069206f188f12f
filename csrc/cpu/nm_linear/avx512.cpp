// N:M linear with AVX-512: one vector is 16 outputs of one token.
//
// A span of inputs of a token sits in one register (two for m > 16). For every slot, a permutation fetches for each of
// the 16 outputs the input that its kept value belongs to, and one fused multiply-add uses it. Weights and codes are
// loaded and decoded once for a tile of up to 12 tokens. Every output is one chain of additions in slot order, so its
// bits depend on neither the tile, nor the number of tokens, nor the threads.
//
// Floors. Compute: one permutation and one fused multiply-add for 16 kept values. On Zen 5 (three pipes do both kinds,
// two of them each) that is at best 1.5 pairs a cycle, 75 % of the fused multiply-add peak for real operations and, for
// 2:4, 1.5 times the peak of a dense kernel. Memory (few tokens): 4.25 bytes a kept fp32 value against 4 bytes for each
// dense one, so 1.88 times dense at the same bandwidth for 2:4; 2.25 against 2 bytes in 16-bit types, 1.78 times.
#include <immintrin.h>

#include "cpu/common/avx512.h"
#include "cpu/nm_linear/interleaved.h"

namespace sparsecore::cpu {

namespace {

using core::DType;

constexpr int kMaxTokens = 12;     // of a tile: sums and inputs take two registers a token
constexpr int kMaxWideTokens = 6;  // m > 16: three registers a token
constexpr int kMaxBlocks = 4;
constexpr int64_t kPanelFloats = 96 * 1024;  // tokens that stay in the second-level cache while the weights pass

struct Tile {
    const InterleavedShape* shape;
    const void* values;      // of the first row block
    const uint16_t* codes;
    const float* x;          // [tokens, x_stride], readable up to the end of the last span
    int64_t x_stride;
    const int32_t* bases;    // first input of each slot's group, relative to its span
    float* sums;             // [blocks, tokens, 16]
};

using TileKernel = void (*)(const Tile&);

template <DType kType>
inline __m512 load_slot(const void* values, int64_t index) {
    if constexpr (kType == DType::F32) {
        return _mm512_load_ps(static_cast<const float*>(values) + index);
    } else {
        const auto* bits = reinterpret_cast<const __m256i*>(static_cast<const uint16_t*>(values) + index);
        return kType == DType::F16 ? f16_bits_to_ps(_mm256_load_si256(bits)) : bf16_bits_to_ps(_mm256_load_si256(bits));
    }
}

// One span of kTokens inputs: registers[0] (and [1] where kWide).
template <bool kWide>
struct Inputs {
    __m512 low, high;
};
template <>
struct Inputs<false> {
    __m512 low;
};

template <bool kWide>
inline __m512 pick(__m512i index, const Inputs<kWide>& x) {
    if constexpr (kWide) {
        return _mm512_permutex2var_ps(x.low, index, x.high);
    } else {
        return _mm512_permutexvar_ps(index, x.low);
    }
}

template <DType kType, int kTokens, int kBlocks, bool kWide>
void run_tile(const Tile& tile) {
    const InterleavedShape& s = *tile.shape;
    const int64_t block_values = s.kept * kLanes, block_codes = s.spans * s.span_words * kLanes;
    const __m512i code_mask = _mm512_set1_epi32((1 << s.bits) - 1);
    const __m128i bits = _mm_cvtsi32_si128(static_cast<int>(s.bits));
    __m512 sums[kBlocks][kTokens];
#pragma GCC unroll 4
    for (int b = 0; b < kBlocks; ++b) {
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) sums[b][t] = _mm512_setzero_ps();
    }
    int64_t value = 0;
    const uint16_t* codes = tile.codes;
    for (int64_t span = 0; span < s.spans; ++span, codes += s.span_words * kLanes) {
        const float* x = tile.x + span * s.span;
        Inputs<kWide> inputs[kTokens];
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) {
            inputs[t].low = _mm512_loadu_ps(x + t * tile.x_stride);
            if constexpr (kWide) inputs[t].high = _mm512_loadu_ps(x + t * tile.x_stride + kLanes);
        }
        const int64_t left = s.kept - span * s.span_slots, slots = left < s.span_slots ? left : s.span_slots;
        const uint16_t* word = codes;
        for (int64_t first = 0; first < slots; first += s.word_codes, word += kLanes) {
            __m512i code[kBlocks];
#pragma GCC unroll 4
            for (int b = 0; b < kBlocks; ++b) {
                const auto* place = reinterpret_cast<const __m256i*>(word + b * block_codes);
                code[b] = _mm512_cvtepu16_epi32(_mm256_load_si256(place));
            }
            const int64_t end = first + s.word_codes < slots ? first + s.word_codes : slots;
#pragma GCC unroll 1
            for (int64_t slot = first; slot < end; ++slot, value += kLanes) {
                const __m512i base = _mm512_set1_epi32(tile.bases[slot]);
#pragma GCC unroll 4
                for (int b = 0; b < kBlocks; ++b) {
                    const __m512 weight = load_slot<kType>(tile.values, b * block_values + value);
                    const __m512i index = _mm512_add_epi32(_mm512_and_si512(code[b], code_mask), base);
                    code[b] = _mm512_srl_epi32(code[b], bits);
#pragma GCC unroll 16
                    for (int t = 0; t < kTokens; ++t) {
                        sums[b][t] = _mm512_fmadd_ps(weight, pick<kWide>(index, inputs[t]), sums[b][t]);
                    }
                }
            }
        }
    }
#pragma GCC unroll 4
    for (int b = 0; b < kBlocks; ++b) {
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) _mm512_store_ps(tile.sums + (b * kTokens + t) * kLanes, sums[b][t]);
    }
}

// Few tokens take several row blocks at once, for enough independent chains of additions and fewer loads of inputs.
template <DType kType>
TileKernel narrow_kernel(int64_t tokens, int64_t blocks) {
    if (blocks == 4) return tokens == 1 ? run_tile<kType, 1, 4, false> : run_tile<kType, 2, 4, false>;
    if (blocks == 2) {
        static constexpr TileKernel two[] = {run_tile<kType, 1, 2, false>, run_tile<kType, 2, 2, false>,
                                             run_tile<kType, 3, 2, false>, run_tile<kType, 4, 2, false>,
                                             run_tile<kType, 5, 2, false>, run_tile<kType, 6, 2, false>};
        return two[tokens - 1];
    }
    static constexpr TileKernel one[kMaxTokens] = {
        run_tile<kType, 1, 1, false>,  run_tile<kType, 2, 1, false>,  run_tile<kType, 3, 1, false>,
        run_tile<kType, 4, 1, false>,  run_tile<kType, 5, 1, false>,  run_tile<kType, 6, 1, false>,
        run_tile<kType, 7, 1, false>,  run_tile<kType, 8, 1, false>,  run_tile<kType, 9, 1, false>,
        run_tile<kType, 10, 1, false>, run_tile<kType, 11, 1, false>, run_tile<kType, 12, 1, false>};
    return one[tokens - 1];
}

template <DType kType>
TileKernel wide_kernel(int64_t tokens) {
    static constexpr TileKernel one[kMaxWideTokens] = {run_tile<kType, 1, 1, true>, run_tile<kType, 2, 1, true>,
                                                       run_tile<kType, 3, 1, true>, run_tile<kType, 4, 1, true>,
                                                       run_tile<kType, 5, 1, true>, run_tile<kType, 6, 1, true>};
    return one[tokens - 1];
}

int64_t blocks_at_once(int64_t tokens, int64_t blocks_left, bool wide) {
    if (wide || tokens > 6 || blocks_left < 2) return 1;
    return tokens <= 2 && blocks_left >= 4 ? 4 : 2;
}

template <DType kType>
void store_sums(const LinearCall& call, int64_t token, int64_t row, int64_t tokens, const float* sums) {
    const __mmask16 mask = lanes16(call.rows - row);
    const __m512 bias = call.bias == nullptr ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask, call.bias + row);
    for (int64_t t = 0; t < tokens; ++t) {
        __m512 value = _mm512_load_ps(sums + t * kLanes);
        value = activate_ps(_mm512_add_ps(value, bias), call.activation);
        const int64_t place = (token + t) * call.out_token_stride + row * call.out_row_stride;
        if (call.out_row_stride == 1) {
            store_ps<kType>(call.out, place, mask, value);
        } else {
            alignas(64) float lanes[kLanes];
            _mm512_store_ps(lanes, value);
            for (int64_t i = 0; i < kLanes && row + i < call.rows; ++i) {
                core::store_float(call.out, place + i * call.out_row_stride, kType, lanes[i]);
            }
        }
    }
}

int64_t panel_stride(const InterleavedShape& s) { return (s.cols / kLanes + 3) * kLanes; }

int64_t chunk_tokens(const InterleavedShape& s) {
    const int64_t tokens = kPanelFloats / panel_stride(s) / kMaxTokens * kMaxTokens;
    return tokens < kMaxTokens ? kMaxTokens : tokens;
}

// Inputs as fp32 with rows that can be read past the last column.
template <DType kType>
void pack_panel(const LinearCall& call, int64_t token, int64_t count, int64_t stride, float* panel) {
    for (int64_t t = 0; t < count; ++t, panel += stride) {
        const int64_t row = (token + t) * call.x_token_stride;
        for (int64_t k = 0; k < stride; k += kLanes) {
            if (call.x_column_stride == 1 || k >= call.cols) {
                _mm512_store_ps(panel + k, load_ps<kType>(call.x, row + k, lanes16(call.cols - k)));
                continue;
            }
            for (int64_t i = k; i < k + kLanes; ++i) panel[i] = i < call.cols ? load_x(call, token + t, i) : 0.0f;
        }
    }
}

// All row blocks for the tokens of one chunk; a row block stays in the first-level cache while the token tiles pass.
template <DType kType>
void run_chunk(const LinearCall& call, const InterleavedWeight& w, int64_t token, int64_t count, int64_t block_begin,
               int64_t block_end, Tile tile) {
    const InterleavedShape& s = w.shape;
    const bool wide = s.m > kLanes;
    const int64_t most = wide ? kMaxWideTokens : kMaxTokens;
    const int64_t tiles = (count + most - 1) / most;
    const float* x = tile.x;
    alignas(64) float sums[24 * kLanes];
    tile.sums = sums;
    for (int64_t block = block_begin, step = 0; block < block_end; block += step) {
        step = blocks_at_once(count, block_end - block, wide);
        tile.values = static_cast<const char*>(w.values) + value_index(s, block, 0) * core::itemsize(kType);
        tile.codes = w.codes + block * s.spans * s.span_words * kLanes;
        for (int64_t i = 0; i < tiles; ++i) {
            const int64_t begin = i * count / tiles, tokens = (i + 1) * count / tiles - begin;
            tile.x = x + begin * tile.x_stride;
            (wide ? wide_kernel<kType>(tokens) : narrow_kernel<kType>(tokens, step))(tile);
            for (int64_t b = 0; b < step; ++b) {
                store_sums<kType>(call, token + begin, (block + b) * kLanes, tokens, sums + b * tokens * kLanes);
            }
        }
    }
}

template <DType kType>
void run(const LinearCall& call, const InterleavedWeight& w, int64_t token_begin, int64_t token_end,
         int64_t block_begin, int64_t block_end, float* panel) {
    const InterleavedShape& s = w.shape;
    int32_t bases[32];
    for (int64_t slot = 0; slot < s.span_slots; ++slot) bases[slot] = static_cast<int32_t>(slot / s.n * s.m);
    Tile tile{};
    tile.shape = &s;
    tile.bases = bases;
    const bool direct = kType == DType::F32 && call.x_column_stride == 1 && s.cols % kLanes == 0 && s.span == kLanes;
    const int64_t chunk = chunk_tokens(s);
    for (int64_t token = token_begin; token < token_end; token += chunk) {
        const int64_t count = token_end - token < chunk ? token_end - token : chunk;
        if (direct) {
            tile.x = static_cast<const float*>(call.x) + token * call.x_token_stride;
            tile.x_stride = call.x_token_stride;
        } else {
            tile.x = panel;
            tile.x_stride = panel_stride(s);
            pack_panel<kType>(call, token, count, tile.x_stride, panel);
        }
        run_chunk<kType>(call, w, token, count, block_begin, block_end, tile);
    }
}

}  // namespace

int64_t interleaved_panel_floats(const InterleavedShape& shape, int64_t tokens) {
    const int64_t chunk = chunk_tokens(shape);
    return panel_stride(shape) * (tokens < chunk ? tokens : chunk);
}

void nm_linear_avx512(const LinearCall& call, const InterleavedWeight& weight, int64_t token_begin, int64_t token_end,
                      int64_t block_begin, int64_t block_end, float* panel) {
    switch (weight.dtype) {
        case DType::F16: return run<DType::F16>(call, weight, token_begin, token_end, block_begin, block_end, panel);
        case DType::BF16: return run<DType::BF16>(call, weight, token_begin, token_end, block_begin, block_end, panel);
        default: return run<DType::F32>(call, weight, token_begin, token_end, block_begin, block_end, panel);
    }
}

}  // namespace sparsecore::cpu
