#include "cuda/nm_linear/gathered/launch.h"

namespace sparsecore::cuda {

void gathered_launch_bf16(const GatheredArgs& args, std::uint64_t stream) { launch_gathered<BF16>(args, stream); }

}  // namespace sparsecore::cuda
