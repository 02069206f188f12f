// V:N:M linear layers of 16-bit elements: the launch, on a stream; errors as nm_linear_launch.
#pragma once

#include "cuda/nm_linear/gathered/args.h"

namespace sparsecore::cuda {

void gathered_launch_bf16(const GatheredArgs& args, std::uint64_t stream);
void gathered_launch_f16(const GatheredArgs& args, std::uint64_t stream);

// On sm_90a: of weights in blocks of 128 rows, with memory for x transposed.
void gathered_launch_sm90_bf16(const GatheredArgs& args, std::uint64_t stream);
void gathered_launch_sm90_f16(const GatheredArgs& args, std::uint64_t stream);

// Queues the transposition of x into args.columns, which hold all of its tokens.
void transpose_launch(const GatheredArgs& args, std::uint64_t stream);

}  // namespace sparsecore::cuda
