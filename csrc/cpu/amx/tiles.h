// The AMX instructions that the kernels use, by number of the tile register. A tile is up to 16 rows of up to 64 bytes.
//
// Compiled with SPARSECORE_EMULATE_TILES they are a software model of the instructions (tiles_model.h), so that the same
// kernels run, and are tested under sanitizers, on machines without AMX.
//
// All kernels share one plan of the eight registers: with two tiles of tokens i and two strips of outputs j,
//   2 * i + j   sums of tokens i and outputs j        4 + i   activations of tokens i        6 + j   weights of outputs j
#pragma once

#include <cstdint>

#if defined(SPARSECORE_EMULATE_TILES)
#include "cpu/amx/tiles_model.h"
#else
#include <immintrin.h>
#endif

namespace sparsecore::cpu::tiles {

constexpr int kSums = 0, kActivations = 4, kWeights = 6;
constexpr int64_t kRows = 16, kRowBytes = 64;

// The memory operand of LDTILECFG.
struct alignas(64) Config {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};
};
static_assert(sizeof(Config) == 64);

#if defined(SPARSECORE_EMULATE_TILES)

static inline void configure(const Config& config) { model::configure(&config); }
static inline void release() { model::release(); }
template <int kTile>
static inline void zero() { model::zero(kTile); }
template <int kTile>
static inline void load(const void* from, int64_t stride) { model::load(kTile, from, stride); }
template <int kTile>
static inline void store(void* to, int64_t stride) { model::store(kTile, to, stride); }
template <int kTokens, int kOutputs>
static inline void multiply_bf16() {
    model::dpbf16ps(2 * kTokens + kOutputs, kActivations + kTokens, kWeights + kOutputs);
}
template <int kTokens, int kOutputs>
static inline void multiply_int8() {
    model::dpbssd(2 * kTokens + kOutputs, kActivations + kTokens, kWeights + kOutputs);
}

#else

// The intrinsics are macros that paste the number of the register into the instruction, and GCC 12 does not tell the
// compiler that a load reads memory: the fence keeps earlier stores before it.
static inline void configure(const Config& config) {
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    _tile_loadconfig(&config);
}
static inline void release() { _tile_release(); }

template <int kTile>
static inline void zero() {
    static_assert(kTile >= kSums && kTile < kActivations);
    if constexpr (kTile == 0) _tile_zero(0);
    if constexpr (kTile == 1) _tile_zero(1);
    if constexpr (kTile == 2) _tile_zero(2);
    if constexpr (kTile == 3) _tile_zero(3);
}

// stride: bytes from row to row.
template <int kTile>
static inline void load(const void* from, int64_t stride) {
    static_assert(kTile >= 0 && kTile < 8);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if constexpr (kTile == 0) _tile_loadd(0, from, stride);
    if constexpr (kTile == 1) _tile_loadd(1, from, stride);
    if constexpr (kTile == 2) _tile_loadd(2, from, stride);
    if constexpr (kTile == 3) _tile_loadd(3, from, stride);
    if constexpr (kTile == 4) _tile_loadd(4, from, stride);
    if constexpr (kTile == 5) _tile_loadd(5, from, stride);
    if constexpr (kTile == 6) _tile_loadd(6, from, stride);
    if constexpr (kTile == 7) _tile_loadd(7, from, stride);
}

template <int kTile>
static inline void store(void* to, int64_t stride) {
    static_assert(kTile >= kSums && kTile < kActivations);
    if constexpr (kTile == 0) _tile_stored(0, to, stride);
    if constexpr (kTile == 1) _tile_stored(1, to, stride);
    if constexpr (kTile == 2) _tile_stored(2, to, stride);
    if constexpr (kTile == 3) _tile_stored(3, to, stride);
}

// Sums, fp32, of pairs of bf16 products.
template <int kTokens, int kOutputs>
static inline void multiply_bf16() {
    if constexpr (kTokens == 0 && kOutputs == 0) _tile_dpbf16ps(0, 4, 6);
    if constexpr (kTokens == 0 && kOutputs == 1) _tile_dpbf16ps(1, 4, 7);
    if constexpr (kTokens == 1 && kOutputs == 0) _tile_dpbf16ps(2, 5, 6);
    if constexpr (kTokens == 1 && kOutputs == 1) _tile_dpbf16ps(3, 5, 7);
}

// Sums, int32 that wraps, of fours of signed products.
template <int kTokens, int kOutputs>
static inline void multiply_int8() {
    if constexpr (kTokens == 0 && kOutputs == 0) _tile_dpbssd(0, 4, 6);
    if constexpr (kTokens == 0 && kOutputs == 1) _tile_dpbssd(1, 4, 7);
    if constexpr (kTokens == 1 && kOutputs == 0) _tile_dpbssd(2, 5, 6);
    if constexpr (kTokens == 1 && kOutputs == 1) _tile_dpbssd(3, 5, 7);
}

#endif

}  // namespace sparsecore::cpu::tiles
