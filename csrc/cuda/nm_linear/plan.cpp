#include "cuda/nm_linear/plan.h"

#include "core/error.h"

namespace sparsecore::cuda {

DecodePlan plan_of(const TileArgs& args, const core::Span* workspace) {
    DecodePlan plan;
    if (workspace == nullptr) return plan;
    core::require_dtype(*workspace, "workspace", core::DType::F32);
    core::require_shape(*workspace, "workspace", {-1, args.tokens, args.rows});
    core::require_contiguous(*workspace, "workspace");
    constexpr int64_t kMost = 65535;  // the third dimension of a CUDA grid
    if (workspace->shape[0] < 1 || workspace->shape[0] > kMost) {
        throw core::Error("ShapeError", "a workspace for " + std::to_string(workspace->shape[0]) + " splits", "workspace",
                    "1 to " + std::to_string(kMost), "take as many as cuda_nm_splits says");
    }
    plan.splits = static_cast<int>(workspace->shape[0]);
    plan.partial = workspace->as<float>();
    return plan;
}

}  // namespace sparsecore::cuda
