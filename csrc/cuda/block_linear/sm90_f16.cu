#include "cuda/block_linear/sm90_launch.h"

namespace sparsecore::cuda::block {

void launch_sm90_f16(const BlockArgs& args, std::uint64_t stream) { launch_sm90<F16>(args, stream); }

}  // namespace sparsecore::cuda::block
