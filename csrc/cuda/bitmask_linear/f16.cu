#include "cuda/bitmask_linear/launch.h"

namespace sparsecore::cuda::bitmask {

void launch_f16(const BitmaskArgs& args, std::uint64_t stream) { launch_tokens<F16>(args, stream); }

}  // namespace sparsecore::cuda::bitmask
