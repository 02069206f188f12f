#include "cuda/topk/launch.h"

namespace sparsecore::cuda {

void topk_launch_f16(const TopkArgs& args, const TopkPlan& plan, void* workspace, std::uint64_t stream) {
    launch_topk<F16>(args, plan, workspace, stream);
}

}  // namespace sparsecore::cuda
