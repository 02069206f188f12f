#include "cuda/bitmask_linear/bitmask_linear.h"

namespace sparsecore::cuda {

void bitmask_linear_launch(const BitmaskArgs& args, core::DType dtype, uint64_t stream) {
    if (args.tokens == 0 || args.rows == 0) return;
    dtype == core::DType::F16 ? bitmask::launch_f16(args, stream) : bitmask::launch_bf16(args, stream);
}

}  // namespace sparsecore::cuda
