#include <string>

#include "core/error.h"
#include "cuda/runtime/launch.h"
#include "cuda/topk/topk.h"

namespace sparsecore::cuda {

namespace {

void require_workspace(const core::Span& workspace, std::int64_t bytes) {
    core::require_shape(workspace, "workspace", {-1});
    core::require_dtype(workspace, "workspace", core::DType::U8);
    core::require_contiguous(workspace, "workspace");
    if (workspace.shape[0] < bytes || (bytes > 0 && reinterpret_cast<std::uintptr_t>(workspace.data) % 16 != 0)) {
        throw core::Error("SpanError", "a workspace of " + std::to_string(workspace.shape[0]) + " bytes", "workspace",
                          std::to_string(bytes) + " bytes from a multiple of 16 on");
    }
}

}  // namespace

int64_t topk_workspace(core::DType dtype, int64_t rows, int64_t n, int64_t k) {
    return topk_plan(dtype, rows, n, k, multiprocessors()).workspace_bytes;
}

void topk_launch(const TopkArgs& args, core::DType dtype, const core::Span& workspace, uint64_t stream) {
    if (args.rows == 0 || args.k == 0) return;
    const TopkPlan plan = topk_plan(dtype, args.rows, args.n, args.k, multiprocessors());
    require_workspace(workspace, plan.workspace_bytes);
    switch (dtype) {
        case core::DType::F32: return topk_launch_f32(args, plan, workspace.data, stream);
        case core::DType::F16: return topk_launch_f16(args, plan, workspace.data, stream);
        case core::DType::BF16: return topk_launch_bf16(args, plan, workspace.data, stream);
        default: return topk_launch_i64(args, plan, workspace.data, stream);
    }
}

}  // namespace sparsecore::cuda
