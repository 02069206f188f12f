// Warp-wide matrix instructions (sm_80 and later): loading 8x8 tiles, dense and 2:4 sparse products, sums in fp32.
//
// Fragments are those of the PTX ISA; g = lane / 4, t = lane % 4:
//   A 16x16 (or the stored half of a 2:4 16x32): a[0] row g, columns 2t, 2t+1; a[1] row g+8; a[2], a[3]: columns + 8.
//   B 16x8: b[r] rows 8r + 2t, 8r + 2t + 1 of column g; a 32x8 B has four registers.
//   D 16x8: d[0], d[1] row g, columns 2t, 2t+1; d[2], d[3] row g+8.
#pragma once

#include "cuda/common/element.h"
#include "cuda/ptx/thread.h"

#if defined(__CUDACC__)

namespace sparsecore::cuda {

// Four 8x8 tiles of 16-bit elements; lanes 8i to 8i+7 give the addresses of tile i's rows (multiples of 16).
SC_DEVICE void load_matrix_x4(std::uint32_t (&tile)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(tile[0]), "=r"(tile[1]), "=r"(tile[2]), "=r"(tile[3])
                 : "r"(shared_address(row))
                 : "memory");
}
// The same, each tile transposed.
SC_DEVICE void load_matrix_x4_transposed(std::uint32_t (&tile)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(tile[0]), "=r"(tile[1]), "=r"(tile[2]), "=r"(tile[3])
                 : "r"(shared_address(row))
                 : "memory");
}

#define SC_MMA(types)                                                                              \
    asm volatile("mma.sync.aligned.m16n8k16.row.col." types                                        \
                 " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                  \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))

// D += A B with A 16x16, B 16x8.
template <class T>
SC_DEVICE void multiply(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]);
template <>
SC_DEVICE void multiply<BF16>(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
    SC_MMA("f32.bf16.bf16.f32");
}
template <>
SC_DEVICE void multiply<F16>(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
    SC_MMA("f32.f16.f16.f32");
}

#define SC_MMA_SPARSE(types)                                                                                \
    asm volatile("mma.sp::ordered_metadata.sync.aligned.m16n8k32.row.col." types                            \
                 " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9, %10, %11}, {%0, %1, %2, %3}, %12, %13;"     \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                           \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(b[2]), "r"(b[3]),  \
                   "r"(metadata), "n"(kSelector))

// D += A B with a 2:4 sparse A 16x32, of which `a` holds the kept 16x16, and B 32x8. Lanes with t = 2 kSelector and
// 2 kSelector + 1 give the metadata of the columns 0-15 and 16-31: the low half word for row g, the high one for g+8;
// two bits for each kept value, its place in its group of four, ascending within a group.
template <class T, int kSelector>
SC_DEVICE void multiply_sparse(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[4],
                               std::uint32_t metadata) {
    static_assert(sizeof(T) == 2 && (kSelector == 0 || kSelector == 1));
    if constexpr (T::kBrain) {
        SC_MMA_SPARSE("f32.bf16.bf16.f32");
    } else {
        SC_MMA_SPARSE("f32.f16.f16.f32");
    }
}

#undef SC_MMA
#undef SC_MMA_SPARSE

}  // namespace sparsecore::cuda

#else

#include "cuda/emulator/matrix.h"

#endif
