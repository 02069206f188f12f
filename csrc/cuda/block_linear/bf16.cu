#include "cuda/block_linear/launch.h"

namespace sparsecore::cuda::block {

void launch_bf16(const BlockArgs& args, std::uint64_t stream) { launch_sm80<BF16>(args, stream); }

}  // namespace sparsecore::cuda::block
