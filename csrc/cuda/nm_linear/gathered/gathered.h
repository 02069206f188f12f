// V:N:M linear layers of 16-bit elements: the launch, on a stream; errors as nm_linear_launch.
#pragma once

#include "cuda/nm_linear/gathered/args.h"

namespace sparsecore::cuda {

void gathered_launch_bf16(const GatheredArgs& args, std::uint64_t stream);
void gathered_launch_f16(const GatheredArgs& args, std::uint64_t stream);

}  // namespace sparsecore::cuda
