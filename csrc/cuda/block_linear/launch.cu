#include "cuda/block_linear/block_linear.h"
#include "cuda/block_linear/choice.h"
#include "cuda/runtime/launch.h"

namespace sparsecore::cuda {

void block_linear_launch(const BlockArgs& args, core::DType dtype, uint64_t stream) {
    if (args.tokens == 0 || args.rows == 0) return;
    const bool is_half = dtype == core::DType::F16;
    if (block::fits_sm90(args) && capability() == 90) {
        return is_half ? block::launch_sm90_f16(args, stream) : block::launch_sm90_bf16(args, stream);
    }
    is_half ? block::launch_f16(args, stream) : block::launch_bf16(args, stream);
}

}  // namespace sparsecore::cuda
