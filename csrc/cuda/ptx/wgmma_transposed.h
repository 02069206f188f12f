// Products by a warpgroup whose B lies as rows, one for every k (sm_90a): dense and 2:4 sparse ones; and those that begin a sum. Fences,
// groups and waits are those of ptx/wgmma.h.
#pragma once

#include "cuda/ptx/wgmma.h"

#if defined(__CUDACC__)

namespace sparsecore::cuda {

using RowsDescriptor = std::uint64_t;

// Rows of 64 elements, 128 bytes apart from `start` (a multiple of 1024) on and in the 128-byte swizzle; the next 64 columns of each
// lie column_block_bytes further.
SC_DEVICE RowsDescriptor rows_descriptor(const void* start, int column_block_bytes) {
    constexpr std::uint64_t kRowsOf8 = 1024 >> 4, kSwizzle128 = 1;
    return ((shared_address(start) & 0x3ffffu) >> 4) | static_cast<std::uint64_t>(column_block_bytes >> 4) << 16 | kRowsOf8 << 32 |
           kSwizzle128 << 62;
}

#define SC_WGMMA_ROWS(count, shape, types, a_at, b_at)                                                                 \
    asm volatile("wgmma.mma_async.sync.aligned." shape types " {" SC_REGISTERS_##count "}, " a_at ", " b_at ", 1, 1, 1, 1;" \
                 : SC_SUMS_##count(0)                                                                                  \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))
#define SC_ROWS_BY_WIDTH(types)                                                                           \
    if constexpr (kColumns == 64) {                                                                       \
        SC_WGMMA_ROWS(32, "m64n64k16", types, "{%32, %33, %34, %35}", "%36");                             \
    } else {                                                                                              \
        static_assert(kColumns == 128);                                                                   \
        SC_WGMMA_ROWS(64, "m64n128k16", types, "{%64, %65, %66, %67}", "%68");                            \
    }

// Queues D += A B: A 64x16 in registers, fragment A of ptx/matrix.h for each warp's 16 rows, and B 16 x kColumns. The registers must
// keep their values until the product has been waited for.
template <class T, int kColumns>
SC_DEVICE void multiply_rows_async(float (&d)[kColumns / 2], const std::uint32_t (&a)[4], RowsDescriptor b) {
    if constexpr (T::kBrain) {
        SC_ROWS_BY_WIDTH(".f32.bf16.bf16")
    } else {
        SC_ROWS_BY_WIDTH(".f32.f16.f16")
    }
}

#define SC_WGMMA_SPARSE_ROWS(types)                                                                                        \
    asm volatile("wgmma.mma_async.sp.sync.aligned.m64n256k32" types " {" SC_REGISTERS_128 "}, " SC_A_128 ", 1, 1, 1, 1;"   \
                 : SC_SUMS_128(0)                                                                                          \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(metadata), "n"(kSelector))

// Queues D += A B: a 2:4 sparse A 64x32 in registers with its metadata, as multiply_sparse_async takes them, and B 32 x 256.
template <class T, int kSelector>
SC_DEVICE void multiply_sparse_rows_async(float (&d)[128], const std::uint32_t (&a)[4], RowsDescriptor b, std::uint32_t metadata) {
    if constexpr (T::kBrain) {
        SC_WGMMA_SPARSE_ROWS(".f32.bf16.bf16");
    } else {
        SC_WGMMA_SPARSE_ROWS(".f32.f16.f16");
    }
}

#define SC_OUT_8(i) \
    "=f"(d[i]), "=f"(d[i + 1]), "=f"(d[i + 2]), "=f"(d[i + 3]), "=f"(d[i + 4]), "=f"(d[i + 5]), "=f"(d[i + 6]), "=f"(d[i + 7])
#define SC_OUT_32(i) SC_OUT_8(i), SC_OUT_8(i + 8), SC_OUT_8(i + 16), SC_OUT_8(i + 24)
#define SC_WGMMA_START(types)                                                                                      \
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16" types " {" SC_REGISTERS_64 "}, %64, %65, 0, 1, 1, 0, 0;" \
                 : SC_OUT_32(0), SC_OUT_32(32)                                                                     \
                 : "l"(a), "l"(b))

// Queues D = A B, whatever D held: A 64x16 and B^T 128 x 16 as multiply_async takes them.
template <class T>
SC_DEVICE void start_product_async(float (&d)[64], TileDescriptor a, TileDescriptor b) {
    if constexpr (T::kBrain) {
        SC_WGMMA_START(".f32.bf16.bf16");
    } else {
        SC_WGMMA_START(".f32.f16.f16");
    }
}

#undef SC_WGMMA_START
#undef SC_OUT_32
#undef SC_OUT_8
#undef SC_WGMMA_SPARSE_ROWS
#undef SC_ROWS_BY_WIDTH
#undef SC_WGMMA_ROWS

}  // namespace sparsecore::cuda

#else

#include "cuda/emulator/wgmma_transposed.h"

#endif
