// Activations to int8 or fp8, one scale a token (sm_80 and later): scale = amax / 127 (1 where that is 0), q = x / scale rounded half to
// even, in [-127, 127]; of fp8 448 in place of 127. A token with an infinity or a NaN has the scale NaN, and zeros. Bound by reading x, once
// for amax and once, from the caches, for q; for a few tokens by the latency of these reads, so that a block has many threads of 16 bytes each.
#pragma once

#include "cuda/common/element.h"
#include "cuda/common/words.h"
#include "cuda/nm_linear/int8/args.h"
#include "cuda/ptx/arithmetic.h"
#include "cuda/ptx/warp.h"

namespace sparsecore::cuda {

constexpr int kQuantiseThreads = 512, kQuantiseWarps = kQuantiseThreads / kWarpSize;

template <class E>
struct Quantised;

template <>
struct Quantised<I8> {
    static constexpr float kLargest = 127.0f;
    static SC_DEVICE std::int8_t round(float quotient) {
        return static_cast<std::int8_t>(fminf(fmaxf(rintf(quotient), -kLargest), kLargest));
    }
};

template <>
struct Quantised<E4M3> {
    static constexpr float kLargest = 448.0f;
    static SC_DEVICE std::int8_t round(float quotient) { return static_cast<std::int8_t>(pack_e4m3(quotient, 0.0f) & 0xffu); }
};

struct QuantiseShared {
    float largest[kQuantiseWarps];
    int unusual[kQuantiseWarps];
};

// The scale of a token, from what its threads have seen of it.
template <class E>
SC_DEVICE float token_scale(QuantiseShared& shared, float largest, bool unusual) {
    const int warp = static_cast<int>(thread_x() / kWarpSize);
    unusual = ballot(unusual) != 0;
    for (int step = kWarpSize / 2; step > 0; step /= 2) largest = fmaxf(largest, shuffle_xor(largest, step));
    shared.largest[warp] = largest;
    shared.unusual[warp] = unusual;
    block_barrier();
    for (int w = 0; w < kQuantiseWarps; ++w) {
        largest = fmaxf(largest, shared.largest[w]);
        unusual = unusual || shared.unusual[w] != 0;
    }
    block_barrier();
    if (unusual) return bits_to_float(0x7fc00000u);
    const float scale = largest / Quantised<E>::kLargest;
    return scale == 0.0f ? 1.0f : scale;
}

// Columns `column`, a multiple of 8, to `column` + 7 of a token; zeros outside.
template <class T>
SC_DEVICE void load_floats(const LinearArgs& a, std::int64_t token, std::int64_t column, float (&x)[kUnit]) {
    const T* from = static_cast<const T*>(a.x) + token * a.x_token_stride;
    if (!a.x_in_units || column + kUnit > a.cols) {
        for (int i = 0; i < kUnit; ++i) x[i] = column + i < a.cols ? to_float(from[(column + i) * a.x_column_stride]) : 0.0f;
        return;
    }
    constexpr int kWords = static_cast<int>(sizeof(T) * kUnit / sizeof(Words4));
    alignas(16) T unit[kUnit];
SC_UNROLL
    for (int i = 0; i < kWords; ++i) reinterpret_cast<Words4*>(unit)[i] = reinterpret_cast<const Words4*>(from + column)[i];
SC_UNROLL
    for (int i = 0; i < kUnit; ++i) x[i] = to_float(unit[i]);
}

// Grid: x = any number of blocks (tokens are looped over). Block: kQuantiseThreads.
template <class T, class E = I8>
SC_GLOBAL void SC_BOUNDS(kQuantiseThreads, 2) quantise_tokens(Int8Args a) {
    auto& shared = shared_memory<QuantiseShared>();
    const TwoFourArgs& call = a.call;
    for (std::int64_t token = block_x(); token < call.tokens; token += grid_dim_x()) {
        const std::int64_t first = static_cast<std::int64_t>(thread_x()) * kUnit;
        float largest = 0.0f, x[kUnit];
        bool unusual = false;
        for (std::int64_t column = first; column < call.cols; column += kQuantiseThreads * kUnit) {
            load_floats<T>(call, token, column, x);
SC_UNROLL
            for (float element : x) {
                const float size = fabsf(element);
                unusual = unusual || !(size <= 3.402823466e38f);
                largest = fmaxf(largest, size);
            }
        }
        const float scale = token_scale<E>(shared, largest, unusual);
        if (thread_x() == 0) a.x_scales[token] = scale;
        for (std::int64_t column = first; column < a.q_stride; column += kQuantiseThreads * kUnit) {
            load_floats<T>(call, token, column, x);
            std::uint64_t bytes = 0;
SC_UNROLL
            for (int i = 0; i < kUnit; ++i) {
                const std::int8_t q = Quantised<E>::round(scale == scale ? x[i] / scale : 0.0f);
                bytes |= static_cast<std::uint64_t>(static_cast<std::uint8_t>(q)) << (8 * i);
            }
            *reinterpret_cast<std::uint64_t*>(a.q + token * a.q_stride + column) = bytes;
        }
    }
}

}  // namespace sparsecore::cuda
