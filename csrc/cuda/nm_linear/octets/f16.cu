#include "cuda/nm_linear/octets/launch.h"

namespace sparsecore::cuda {

void octets_launch_f16(const OctetArgs& args, std::uint64_t stream) { launch_octets<F16>(args, stream); }

}  // namespace sparsecore::cuda
