// A build without CUDA says so; it has no launches.
#include "cuda/runtime/runtime.h"

namespace sparsecore::cuda {

RuntimeInfo runtime_info() {
    RuntimeInfo info;
    info.reason = "built without CUDA (SPARSECORE_CUDA)";
    return info;
}

}  // namespace sparsecore::cuda
