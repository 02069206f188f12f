#include "cuda/nm_linear/gathered/sm90_launch.h"

namespace sparsecore::cuda {

void gathered_launch_sm90_f16(const GatheredArgs& args, std::uint64_t stream) { launch_gathered_sm90<F16>(args, stream); }

}  // namespace sparsecore::cuda
