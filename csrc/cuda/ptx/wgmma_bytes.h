// Sparse products of bytes by a warpgroup (sm_90a): int8 with sums in 32 bits, fp8 with sums in fp32. Tiles, sums, fences and groups are
// those of ptx/wgmma.h; a row of a tile has 128 elements.
//
// A 2:4 sparse A 64x64 is in registers: `a` holds the kept 16x32 of each warp's rows as fragment A of ptx/matrix_int8.h, whose metadata
// it has too. B^T is kColumns x 64 with consecutive elements of a row. Hopper adds the products of fp8 with fewer bits than fp32 has.
#pragma once

#include "cuda/ptx/wgmma.h"

#if defined(__CUDACC__)

namespace sparsecore::cuda {

#define SC_BYTES_8(how, i) \
    how(d[i]), how(d[i + 1]), how(d[i + 2]), how(d[i + 3]), how(d[i + 4]), how(d[i + 5]), how(d[i + 6]), how(d[i + 7])
#define SC_BYTES_32(how, i) SC_BYTES_8(how, i), SC_BYTES_8(how, i + 8), SC_BYTES_8(how, i + 16), SC_BYTES_8(how, i + 24)
#define SC_BYTES_64(how, i) SC_BYTES_32(how, i), SC_BYTES_32(how, i + 32)
#define SC_BYTES_128(how, i) SC_BYTES_64(how, i), SC_BYTES_64(how, i + 64)
#define SC_WGMMA_BYTES(count, shape, types, how, a_at, rest)                                                                          \
    asm volatile("wgmma.mma_async.sp.sync.aligned." shape types " {" SC_REGISTERS_##count "}, " a_at ", 0, " rest ";"                 \
                 : SC_BYTES_##count(how, 0)                                                                                           \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(metadata))
#define SC_BYTES_BY_WIDTH(types, how, rest)                                                                                           \
    if constexpr (kColumns == 64) {                                                                                                   \
        SC_WGMMA_BYTES(32, "m64n64k64", types, how, "{%32, %33, %34, %35}, %36, %37", rest);                                          \
    } else if constexpr (kColumns == 128) {                                                                                           \
        SC_WGMMA_BYTES(64, "m64n128k64", types, how, "{%64, %65, %66, %67}, %68, %69", rest);                                         \
    } else {                                                                                                                          \
        static_assert(kColumns == 256);                                                                                               \
        SC_WGMMA_BYTES(128, "m64n256k64", types, how, "{%128, %129, %130, %131}, %132, %133", rest);                                  \
    }

// Queue D += A B. The registers of A must keep their values until the product has been waited for.
template <int kColumns>
SC_DEVICE void multiply_sparse_bytes_async(std::int32_t (&d)[kColumns / 2], const std::uint32_t (&a)[4], TileDescriptor b,
                                           std::uint32_t metadata) {
    SC_BYTES_BY_WIDTH(".s32.s8.s8", "+r", "1")
}
template <int kColumns>
SC_DEVICE void multiply_sparse_e4m3_async(float (&d)[kColumns / 2], const std::uint32_t (&a)[4], TileDescriptor b,
                                          std::uint32_t metadata) {
    SC_BYTES_BY_WIDTH(".f32.e4m3.e4m3", "+f", "1, 1, 1")
}

#undef SC_BYTES_BY_WIDTH
#undef SC_WGMMA_BYTES
#undef SC_BYTES_128
#undef SC_BYTES_64
#undef SC_BYTES_32
#undef SC_BYTES_8

}  // namespace sparsecore::cuda

#else

#include "cuda/emulator/wgmma_bytes.h"

#endif
