// Warp-wide products of bytes with sums in 32 bits (sm_80 and later). Fragments; g = lane / 4, t = lane % 4:
//   A 16x32 (or the stored half of a 2:4 16x64): a[0] row g, columns 4t to 4t + 3, the first in the lowest byte; a[1] row g + 8; a[2],
//   a[3]: columns + 16.
//   B 32x8: b[r] rows 16r + 4t to 16r + 4t + 3 of column g; a 64x8 B has four registers.
//   D 16x8: d[0], d[1] row g, columns 2t, 2t + 1; d[2], d[3] row g + 8.
// B may come by load_matrix_x4 (ptx/matrix.h) from rows that hold the columns of B.
#pragma once

#include "cuda/ptx/thread.h"

#if defined(__CUDACC__)

namespace sparsecore::cuda {

// D += A B with unsigned bytes in A and signed ones in B.
SC_DEVICE void multiply_bytes(std::int32_t (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32"
                 " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// The same with signed bytes in A.
SC_DEVICE void multiply_signed_bytes(std::int32_t (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32"
                 " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// D += A B with signed bytes and a 2:4 sparse A 16x64, of which `a` holds the kept 16x32. Lane (g, t) gives the metadata of row
// g + 8 (t % 2) and the columns from 32 (t / 2) on: two bits for each of 16 kept values, its place in its group of four, ascending
// within a group.
SC_DEVICE void multiply_sparse_bytes(std::int32_t (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[4],
                                     std::uint32_t metadata) {
    asm volatile(
        "mma.sp::ordered_metadata.sync.aligned.m16n8k64.row.col.s32.s8.s8.s32"
        " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9, %10, %11}, {%0, %1, %2, %3}, %12, 0;"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(b[2]), "r"(b[3]), "r"(metadata));
}

}  // namespace sparsecore::cuda

#else

#include "cuda/emulator/matrix_int8.h"

#endif
