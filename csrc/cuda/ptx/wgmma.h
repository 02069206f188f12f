// Products by a warpgroup, four warps of which the first has a number that is a multiple of four (sm_90a).
//
// They run asynchronously on tiles in shared memory with rows of 128 bytes in the 128-byte swizzle (as copy_tile leaves
// them). Sums are fp32: thread lane of warp w of the group holds rows 16w + lane / 4 (+ 8) and columns 8j + lane % 4 * 2
// (+ 1) of D in d[4j], d[4j + 1] (d[4j + 2], d[4j + 3]).
#pragma once

#include "cuda/common/element.h"
#include "cuda/ptx/thread.h"

#if defined(__CUDACC__)

namespace sparsecore::cuda {

using TileDescriptor = std::uint64_t;

// A tile whose rows lie 128 bytes apart, from `start` on; within a row `start` may move in steps of 32 bytes.
SC_DEVICE TileDescriptor tile_descriptor(const void* start) {
    constexpr std::uint64_t kRowsOf8 = 1024 >> 4, kSwizzle128 = 1;
    return ((shared_address(start) & 0x3ffffu) >> 4) | std::uint64_t{1} << 16 | kRowsOf8 << 32 | kSwizzle128 << 62;
}

// Orders the use of accumulators by ordinary code before and by products after.
SC_DEVICE void fence_accumulators() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
SC_DEVICE void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Waits until at most kPending committed groups run; the accumulators may be read only behind it.
template <int kPending, int kCount>
SC_DEVICE void wait_products(float (&d)[kCount]) {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
SC_UNROLL
    for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}
template <int kPending, int kCount>
SC_DEVICE void wait_products(std::int32_t (&d)[kCount]) {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
SC_UNROLL
    for (int i = 0; i < kCount; ++i) asm volatile("" : "+r"(d[i])::"memory");
}

#define SC_REGISTERS_32 \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define SC_REGISTERS_64 \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define SC_REGISTERS_128 \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, " \
    "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
    "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, " \
    "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
    "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
// Operands behind the sums: the selector where A is in memory; A, B, metadata and selector where it is in registers.
#define SC_SELECTOR_32 "35"
#define SC_SELECTOR_64 "67"
#define SC_SELECTOR_128 "131"
#define SC_A_32 "{%32, %33, %34, %35}, %36, %37, %38"
#define SC_A_64 "{%64, %65, %66, %67}, %68, %69, %70"
#define SC_A_128 "{%128, %129, %130, %131}, %132, %133, %134"
#define SC_SUMS_8(i) \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define SC_SUMS_32(i) SC_SUMS_8(i), SC_SUMS_8(i + 8), SC_SUMS_8(i + 16), SC_SUMS_8(i + 24)
#define SC_SUMS_64(i) SC_SUMS_32(i), SC_SUMS_32(i + 32)
#define SC_SUMS_128(i) SC_SUMS_64(i), SC_SUMS_64(i + 64)

#define SC_WGMMA_SPARSE(count, shape, types, a_at, b_at, m_at)                                                \
    asm volatile("wgmma.mma_async.sp.sync.aligned." shape types " {" SC_REGISTERS_##count "}, " a_at ", " b_at \
                 ", " m_at ", %" SC_SELECTOR_##count ", 1, 1, 1, 0, 0;"                                        \
                 : SC_SUMS_##count(0)                                                                          \
                 : "l"(a), "l"(b), "r"(metadata), "n"(kSelector))
// Dense products have no metadata.
#define SC_WGMMA(count, shape, types, a_at, b_at, unused_m_at)                                              \
    asm volatile("wgmma.mma_async.sync.aligned." shape types " {" SC_REGISTERS_##count "}, " a_at ", " b_at \
                 ", 1, 1, 1, 0, 0;"                                                                         \
                 : SC_SUMS_##count(0)                                                                       \
                 : "l"(a), "l"(b))
// A lies in registers: SC_A_* has its operands and those behind it.
#define SC_WGMMA_SPARSE_REGISTERS(count, shape, types, unused_a_at, unused_b_at, unused_m_at)                \
    asm volatile("wgmma.mma_async.sp.sync.aligned." shape types " {" SC_REGISTERS_##count "}, " SC_A_##count \
                 ", 1, 1, 1, 0;"                                                                             \
                 : SC_SUMS_##count(0)                                                                        \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(metadata), "n"(kSelector))
#define SC_BY_WIDTH(instruction, k, types)                                                             \
    if constexpr (kColumns == 64) {                                                                   \
        instruction(32, "m64n64" k, types, "%32", "%33", "%34");                                      \
    } else if constexpr (kColumns == 128) {                                                           \
        instruction(64, "m64n128" k, types, "%64", "%65", "%66");                                     \
    } else {                                                                                          \
        static_assert(kColumns == 256);                                                               \
        instruction(128, "m64n256" k, types, "%128", "%129", "%130");                                 \
    }

// Queues D += A B: A 64x16 and B^T kColumns x 16, both with 16 consecutive elements of a row.
template <class T, int kColumns>
SC_DEVICE void multiply_async(float (&d)[kColumns / 2], TileDescriptor a, TileDescriptor b) {
    if constexpr (T::kBrain) {
        SC_BY_WIDTH(SC_WGMMA, "k16", ".f32.bf16.bf16")
    } else {
        SC_BY_WIDTH(SC_WGMMA, "k16", ".f32.f16.f16")
    }
}

// Queues D += A B with a 2:4 sparse A 64x32, of which 16 kept elements a row lie at `a`, and B^T kColumns x 32. Lanes with
// lane % 4 = 2 kSelector and 2 kSelector + 1 give the metadata of the columns 0-15 and 16-31, for rows 16w + lane / 4 (low half
// word) and + 8.
template <class T, int kColumns, int kSelector>
SC_DEVICE void multiply_sparse_async(float (&d)[kColumns / 2], TileDescriptor a, TileDescriptor b,
                                     std::uint32_t metadata) {
    if constexpr (T::kBrain) {
        SC_BY_WIDTH(SC_WGMMA_SPARSE, "k32", ".f32.bf16.bf16")
    } else {
        SC_BY_WIDTH(SC_WGMMA_SPARSE, "k32", ".f32.f16.f16")
    }
}

// The same with A in registers: each warp's 16 rows are fragment A of ptx/matrix.h. They must keep their values until the product
// has been waited for.
template <class T, int kColumns, int kSelector>
SC_DEVICE void multiply_sparse_async(float (&d)[kColumns / 2], const std::uint32_t (&a)[4], TileDescriptor b,
                                     std::uint32_t metadata) {
    if constexpr (T::kBrain) {
        SC_BY_WIDTH(SC_WGMMA_SPARSE_REGISTERS, "k32", ".f32.bf16.bf16")
    } else {
        SC_BY_WIDTH(SC_WGMMA_SPARSE_REGISTERS, "k32", ".f32.f16.f16")
    }
}

// Moves registers of the SM between the block's warpgroups: a group keeps kCount a thread, or waits until it has as many.
template <int kCount>
SC_DEVICE void give_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
SC_DEVICE void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}

#undef SC_BY_WIDTH
#undef SC_WGMMA
#undef SC_WGMMA_SPARSE
#undef SC_WGMMA_SPARSE_REGISTERS

}  // namespace sparsecore::cuda

#else

#include "cuda/emulator/wgmma.h"

#endif
