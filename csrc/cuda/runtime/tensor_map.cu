#include "cuda/runtime/tensor_map.h"

#include "core/error.h"
#include "cuda/runtime/launch.h"

namespace sparsecore::cuda {

namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);

Encode find_encoder() {
    constexpr unsigned kSince = 12000;  // CUDA 12.0
    void* found = nullptr;
    cudaDriverEntryPointQueryResult status{};
    check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, kSince, cudaEnableDefault, &status),
          "cuTensorMapEncodeTiled");
    if (status != cudaDriverEntryPointSuccess || found == nullptr) {
        throw core::Error("DriverError", "the driver has no cuTensorMapEncodeTiled", "CUDA driver", "CUDA 12.0 or later",
                          "update the driver");
    }
    return reinterpret_cast<Encode>(found);
}

}  // namespace

TensorMap matrix_map(const void* data, std::int64_t rows, std::int64_t columns, std::int64_t row_stride, int box_rows) {
    static const Encode encode = find_encoder();
    constexpr cuuint32_t kBoxColumns = 64;  // 128 bytes
    TensorMap map{};
    const cuuint64_t sizes[] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
    const cuuint64_t strides[] = {static_cast<cuuint64_t>(row_stride) * 2};
    const cuuint32_t box[] = {kBoxColumns, static_cast<cuuint32_t>(box_rows)}, steps[] = {1, 1};
    // The elements are only moved: bf16 and fp16 alike.
    const CUresult status = encode(&map, CU_TENSOR_MAP_DATA_TYPE_UINT16, 2, const_cast<void*>(data), sizes, strides, box, steps,
                                   CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                   CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (status != CUDA_SUCCESS) {
        throw core::Error("LaunchError", "cuTensorMapEncodeTiled refused a matrix with code " + std::to_string(status),
                          "cuda_nm_linear");
    }
    return map;
}

}  // namespace sparsecore::cuda
