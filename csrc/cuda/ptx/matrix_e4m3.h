// Warp-wide products of fp8 numbers with sums in fp32. On sm_89 and sm_120; sm_90 and sm_100 have the instruction as products of fp16, so
// that kernels for sm_90 take ptx/wgmma_bytes.h. Fragments and metadata are those of ptx/matrix_int8.h.
#pragma once

#include "cuda/ptx/thread.h"
#include "cuda/ptx/trap.h"

#if defined(__CUDACC__)

namespace sparsecore::cuda {

// D += A B with a 2:4 sparse A 16x64, of which `a` holds the kept 16x32, and B 64x8, all E4M3. Ends the kernel on what is older.
SC_DEVICE void multiply_sparse_e4m3(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[4], std::uint32_t metadata) {
#if __CUDA_ARCH__ >= 890
    asm volatile(
        "mma.sp::ordered_metadata.sync.aligned.m16n8k64.row.col.f32.e4m3.e4m3.f32"
        " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9, %10, %11}, {%0, %1, %2, %3}, %12, 0;"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(b[2]), "r"(b[3]), "r"(metadata));
#else
    trap("products of fp8 before sm_89");
#endif
}

}  // namespace sparsecore::cuda

#else

#include "cuda/emulator/matrix_e4m3.h"

#endif
