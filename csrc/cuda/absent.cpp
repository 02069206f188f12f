// A build without CUDA: the same functions, which say so.
#include "core/error.h"
#include "cuda/nm_linear/nm_linear.h"
#include "cuda/runtime/runtime.h"

namespace sparsecore::cuda {

RuntimeInfo runtime_info() {
    RuntimeInfo info;
    info.reason = "built without CUDA (SPARSECORE_CUDA)";
    return info;
}

void nm_linear_launch(const NmLinearCall&, core::DType, uint64_t) {
    throw core::Error("UnsupportedError", "this build has no CUDA kernels", "cuda_nm_linear", "a build with nvcc",
                      "build with SPARSECORE_CUDA=ON");
}

}  // namespace sparsecore::cuda
