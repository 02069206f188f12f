// ptx/wgmma_transposed.h on the host.
#pragma once

#include "cuda/emulator/wgmma.h"

namespace sparsecore::cuda {

struct RowsDescriptor {
    const unsigned char* start;
    int column_block_bytes;
};

inline RowsDescriptor rows_descriptor(const void* start, int column_block_bytes) {
    emulator::require_aligned(start, 1024, "rows of a warpgroup product");
    if (column_block_bytes <= 0 || column_block_bytes % 1024 != 0) emulator::fault("blocks of columns that are no multiple of 1024 bytes");
    return {static_cast<const unsigned char*>(start), column_block_bytes};
}

template <class T, int kColumns>
void multiply_rows_async(float (&d)[kColumns / 2], const std::uint32_t (&a)[4], RowsDescriptor b) {
    emulator::multiply_tiles({d, nullptr, a, b.start, 0, b.column_block_bytes}, T::kBrain, emulator::kDense, kColumns);
}

template <class T, int kSelector>
void multiply_sparse_rows_async(float (&d)[128], const std::uint32_t (&a)[4], RowsDescriptor b, std::uint32_t metadata) {
    emulator::multiply_tiles({d, nullptr, a, b.start, metadata, b.column_block_bytes}, T::kBrain, kSelector, 256);
}

template <class T>
void start_product_async(float (&d)[64], TileDescriptor a, TileDescriptor b) {
    emulator::multiply_tiles({d, a, nullptr, b, 0, 0, true}, T::kBrain, emulator::kDense, 128);
}

}  // namespace sparsecore::cuda
