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

// Sizes and strides (in elements, of all dimensions but the first) from columns to matrices; boxes of one matrix.
template <unsigned kRank>
TensorMap encode_map(const void* data, const std::int64_t (&sizes)[kRank], const std::int64_t (&strides)[kRank - 1], int box_rows) {
    static const Encode encode = find_encoder();
    constexpr cuuint32_t kBoxColumns = 64;  // 128 bytes
    TensorMap map{};
    cuuint64_t counts[kRank], bytes[kRank - 1];
    cuuint32_t box[kRank], steps[kRank];
    for (unsigned i = 0; i < kRank; ++i) {
        counts[i] = static_cast<cuuint64_t>(sizes[i]);
        if (i + 1 < kRank) bytes[i] = static_cast<cuuint64_t>(strides[i]) * 2;
        box[i] = i == 0 ? kBoxColumns : i == 1 ? static_cast<cuuint32_t>(box_rows) : 1;
        steps[i] = 1;
    }
    // The elements are only moved: bf16 and fp16 alike.
    const CUresult status = encode(&map, CU_TENSOR_MAP_DATA_TYPE_UINT16, kRank, const_cast<void*>(data), counts, bytes, box, steps,
                                   CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                   CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (status != CUDA_SUCCESS) {
        throw core::Error("LaunchError", "cuTensorMapEncodeTiled refused a matrix with code " + std::to_string(status),
                          "CUDA driver");
    }
    return map;
}

}  // namespace

TensorMap matrix_map(const void* data, std::int64_t rows, std::int64_t columns, std::int64_t row_stride, int box_rows) {
    return encode_map<2>(data, {columns, rows}, {row_stride}, box_rows);
}

TensorMap matrices_map(const void* data, const Matrices& m, int box_rows) {
    return encode_map<4>(data, {m.columns, m.rows, m.thirds, m.fourths}, {m.row_stride, m.third_stride, m.fourth_stride}, box_rows);
}

}  // namespace sparsecore::cuda
