// Which kernel runs a call, and the launches that block_linear_launch chooses from: one source file for each element type, so that they
// compile side by side.
#pragma once

#include "cuda/block_linear/args.h"

namespace sparsecore::cuda::block {

constexpr std::int64_t kMostDecodeTokens = 16;  // up to so many the bytes of the weight decide, beyond the products

// The kernels of sm_80 and later.
void launch_bf16(const BlockArgs& args, std::uint64_t stream);
void launch_f16(const BlockArgs& args, std::uint64_t stream);

// The kernel for many tokens on sm_90a, and what it needs: rows of 128 bytes in whole 64x64 tiles, activations that a tensor map can describe.
inline bool fits_sm90(const BlockArgs& a) {
    return a.tokens > kMostDecodeTokens && a.tokens <= INT32_MAX && a.cols > 0 && a.cols <= INT32_MAX && has_tensor_map(a) &&
           a.height >= 64 && a.width >= 64;
}
void launch_sm90_bf16(const BlockArgs& args, std::uint64_t stream);
void launch_sm90_f16(const BlockArgs& args, std::uint64_t stream);

}  // namespace sparsecore::cuda::block
