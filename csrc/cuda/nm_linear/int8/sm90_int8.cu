#include "cuda/nm_linear/int8/int8_linear.h"
#include "cuda/nm_linear/int8/sm90_launch.h"

namespace sparsecore::cuda {

void int8_launch_sm90(const Int8Args& args, core::DType dtype, std::uint64_t stream) { launch_sm90_bytes<I8>(args, dtype, stream); }

}  // namespace sparsecore::cuda
