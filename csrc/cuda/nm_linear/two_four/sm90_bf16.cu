#include "cuda/nm_linear/two_four/sm90_launch.h"

namespace sparsecore::cuda {

void two_four_launch_sm90_bf16(const TwoFourArgs& args, std::uint64_t stream) { launch_sm90<BF16>(args, stream); }

}  // namespace sparsecore::cuda
