// Copies by the tensor memory accelerator (sm_90 and later). Tiles: a box of a matrix in global memory to shared memory,
// zeros outside the matrix, in the 128-byte swizzle that warpgroup products read. Bulk: consecutive bytes as they are.
#pragma once

#include "cuda/ptx/mbarrier.h"
#include "cuda/ptx/thread.h"

#if defined(__CUDACC__)

#include <cuda.h>

#define SC_TENSOR_MAP const __grid_constant__ ::sparsecore::cuda::TensorMap

namespace sparsecore::cuda {

using TensorMap = CUtensorMap;

// One thread copies the box at (column, row); `to` is a multiple of 1024, the bytes of the whole box arrive at `barrier`.
SC_DEVICE void copy_tile(void* to, const TensorMap* map, int column, int row, MBarrier* barrier) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(
            shared_address(to)),
        "l"(map), "r"(column), "r"(row), "r"(shared_address(barrier))
        : "memory");
}
// The same for a box of one of many matrices, which `third` and `fourth` count.
SC_DEVICE void copy_tile(void* to, const TensorMap* map, int column, int row, int third, int fourth, MBarrier* barrier) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(
            shared_address(to)),
        "l"(map), "r"(column), "r"(row), "r"(third), "r"(fourth), "r"(shared_address(barrier))
        : "memory");
}

// One thread copies `bytes` consecutive ones; both addresses and `bytes` are multiples of 16. They arrive at `barrier`.
SC_DEVICE void copy_bulk(void* to, const void* from, int bytes, MBarrier* barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                     shared_address(to)),
                 "l"(from), "r"(bytes), "r"(shared_address(barrier))
                 : "memory");
}

}  // namespace sparsecore::cuda

#else

#define SC_TENSOR_MAP const ::sparsecore::cuda::TensorMap

#include "cuda/emulator/tma.h"

#endif
