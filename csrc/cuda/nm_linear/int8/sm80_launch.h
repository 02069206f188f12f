// Launches of int8 and fp8 2:4 layers that every GPU has. T: of x and out; E: of the weight and q.
#pragma once

#include "cuda/nm_linear/int8/quantise.h"
#include "cuda/nm_linear/int8/sm80_gemm.h"
#include "cuda/runtime/launch.h"

namespace sparsecore::cuda {

template <class T, class E>
void launch_quantise(const Int8Args& a, std::uint64_t stream) {
    launch("cuda_int8_linear", quantise_tokens<T, E>, Grid{at_most_grid_y(a.call.tokens)}, kQuantiseThreads,
           shared_bytes<QuantiseShared>(), stream, a);
}

template <class T, int kTokens, class E>
void launch_gemm(const Int8Args& a, std::uint64_t stream) {
    const Grid grid{static_cast<unsigned>((a.call.rows + kInt8Rows - 1) / kInt8Rows),
                    at_most_grid_y((a.call.tokens + kTokens - 1) / kTokens)};
    launch("cuda_int8_linear", sm80_int8_gemm<T, kTokens, E>, grid, kGemmThreads,
           shared_bytes<typename Int8Shape<kTokens, E>::Shared>(), stream, a);
}

// Blocks of 32 tokens for so few, of 128 for more.
template <class T, class E>
void launch_sm80(const Int8Args& a, std::uint64_t stream) {
    constexpr std::int64_t kFew = 32;
    if (a.call.tokens <= kFew) return launch_gemm<T, kFew, E>(a, stream);
    launch_gemm<T, 128, E>(a, stream);
}

}  // namespace sparsecore::cuda
