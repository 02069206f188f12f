#include <cuda_runtime.h>

#include <string>

#include "core/error.h"
#include "cuda/nm_linear/kernel.h"
#include "cuda/nm_linear/nm_linear.h"

namespace sparsecore::cuda {

namespace {

constexpr std::int64_t kMaxGridY = 65535;

template <class T, int kTokens>
void launch(const NmLinearArgs& args, cudaStream_t stream) {
    const std::int64_t tiles = (args.tokens + kTokens - 1) / kTokens;
    const dim3 grid(static_cast<unsigned>((args.rows + kWarpsPerBlock - 1) / kWarpsPerBlock),
                    static_cast<unsigned>(tiles < kMaxGridY ? tiles : kMaxGridY));
    nm_linear_kernel<T, kTokens><<<grid, kWarpsPerBlock * kWarpSize, 0, stream>>>(args);
}

template <class T>
void launch_tokens(const NmLinearArgs& args, cudaStream_t stream) {
    if (args.tokens == 1) {
        launch<T, 1>(args, stream);
    } else if (args.tokens == 2) {
        launch<T, 2>(args, stream);
    } else {
        launch<T, 4>(args, stream);
    }
}

}  // namespace

void nm_linear_launch(const NmLinearArgs& args, core::DType dtype, uint64_t stream) {
    if (args.tokens == 0 || args.rows == 0) return;
    const auto handle = reinterpret_cast<cudaStream_t>(stream);
    cudaGetLastError();  // an error of an earlier, foreign call is not ours to report
    switch (dtype) {
        case core::DType::F32: launch_tokens<F32>(args, handle); break;
        case core::DType::F16: launch_tokens<F16>(args, handle); break;
        default: launch_tokens<BF16>(args, handle); break;
    }
    const cudaError_t status = cudaGetLastError();
    if (status != cudaSuccess) {
        throw core::Error("UnsupportedError", std::string("CUDA kernel launch failed: ") + cudaGetErrorString(status),
                          "cuda_nm_linear");
    }
}

}  // namespace sparsecore::cuda
