#include "cuda/nm_linear/octets/launch.h"

namespace sparsecore::cuda {

void octets_launch_bf16(const OctetArgs& args, std::uint64_t stream) { launch_octets<BF16>(args, stream); }

}  // namespace sparsecore::cuda
