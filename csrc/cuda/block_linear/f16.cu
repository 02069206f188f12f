#include "cuda/block_linear/launch.h"

namespace sparsecore::cuda::block {

void launch_f16(const BlockArgs& args, std::uint64_t stream) { launch_sm80<F16>(args, stream); }

}  // namespace sparsecore::cuda::block
