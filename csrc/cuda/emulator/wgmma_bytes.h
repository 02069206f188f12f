// ptx/wgmma_bytes.h on the host.
#pragma once

#include "cuda/emulator/wgmma.h"

namespace sparsecore::cuda {

namespace emulator {

// Operands of one thread; the sums are 32 bits of integers, or fp32 where the bytes are E4M3.
struct ByteProduct {
    void* d;
    const std::uint32_t* a;
    const unsigned char* b;
    std::uint32_t metadata;
};

void multiply_sparse_bytes(const ByteProduct& operands, bool e4m3, int columns);

}  // namespace emulator

template <int kColumns>
void multiply_sparse_bytes_async(std::int32_t (&d)[kColumns / 2], const std::uint32_t (&a)[4], TileDescriptor b,
                                 std::uint32_t metadata) {
    emulator::multiply_sparse_bytes({d, a, b, metadata}, false, kColumns);
}
template <int kColumns>
void multiply_sparse_e4m3_async(float (&d)[kColumns / 2], const std::uint32_t (&a)[4], TileDescriptor b, std::uint32_t metadata) {
    emulator::multiply_sparse_bytes({d, a, b, metadata}, true, kColumns);
}

}  // namespace sparsecore::cuda
