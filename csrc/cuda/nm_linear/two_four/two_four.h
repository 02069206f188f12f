// 2:4 linear layers of 16-bit elements on tensor cores: the choice of the kernel and its launch.
#pragma once

#include <cstdint>

#include "cuda/common/element.h"
#include "cuda/nm_linear/plan.h"
#include "cuda/nm_linear/two_four/args.h"

namespace sparsecore::cuda {

// Queue the kernels of sm_80 and later on a stream; errors as nm_linear_launch.
void two_four_launch_bf16(const TwoFourArgs& args, std::uint64_t stream);
void two_four_launch_f16(const TwoFourArgs& args, std::uint64_t stream);

// The kernel for many tokens on sm_90a, and what it needs: activations that a tensor map can describe, and a grid that they fit in.
constexpr std::int64_t kSm90MostTokens = std::int64_t{65535} * 256;
inline bool fits_sm90(const TwoFourArgs& a) {
    return a.tokens > kMostDecodeTokens && a.tokens <= kSm90MostTokens && has_tensor_map(a) && a.column_tiles > 0;
}
void two_four_launch_sm90_bf16(const TwoFourArgs& args, std::uint64_t stream);
void two_four_launch_sm90_f16(const TwoFourArgs& args, std::uint64_t stream);

}  // namespace sparsecore::cuda
