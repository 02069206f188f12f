#include "cuda/nm_linear/two_four/launch.h"

namespace sparsecore::cuda {

void two_four_launch_f16(const TwoFourArgs& args, std::uint64_t stream) { launch_two_four<F16>(args, stream); }

}  // namespace sparsecore::cuda
