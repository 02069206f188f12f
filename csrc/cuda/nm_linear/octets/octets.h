// 1:4, 1:8 and 2:8 linear layers of 16-bit elements: the launch, on a stream; errors as nm_linear_launch.
#pragma once

#include "cuda/nm_linear/octets/args.h"

namespace sparsecore::cuda {

void octets_launch_bf16(const OctetArgs& args, std::uint64_t stream);
void octets_launch_f16(const OctetArgs& args, std::uint64_t stream);

}  // namespace sparsecore::cuda
