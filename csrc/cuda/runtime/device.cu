#include "cuda/runtime/launch.h"

namespace sparsecore::cuda {

namespace {

int attribute(cudaDeviceAttr which) {
    int device = 0, value = 0;
    check(cudaGetDevice(&device), "CUDA device");
    check(cudaDeviceGetAttribute(&value, which, device), "CUDA device");
    return value;
}

}  // namespace

int capability() {
    return attribute(cudaDevAttrComputeCapabilityMajor) * 10 + attribute(cudaDevAttrComputeCapabilityMinor);
}

int multiprocessors() { return attribute(cudaDevAttrMultiProcessorCount); }

}  // namespace sparsecore::cuda
