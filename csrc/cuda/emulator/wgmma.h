// ptx/wgmma.h on the host.
#pragma once

#include "cuda/common/element.h"
#include "cuda/emulator/thread.h"

namespace sparsecore::cuda {

using TileDescriptor = const unsigned char*;

namespace emulator {

// Operands of one thread; tiles are those of the whole warpgroup, A may be in the threads' registers instead.
struct TileProduct {
    float* d;
    const unsigned char* a;
    const std::uint32_t* registers;
    const unsigned char* b;
    std::uint32_t metadata;
    int column_block_bytes = 0;  // not 0: B lies as rows of k, 64 columns a block, blocks so far apart
    bool starts = false;         // what D held does not count
};

constexpr int kDense = -1;
void multiply_tiles(const TileProduct& operands, bool brain, int selector, int columns);
void meet_warpgroup(const char* what, std::uint64_t detail, void (*work)(void* const*, std::uint64_t));

}  // namespace emulator

inline TileDescriptor tile_descriptor(const void* start) {
    emulator::require_aligned(start, 16, "a tile of a warpgroup product");
    return static_cast<const unsigned char*>(start);
}

void fence_accumulators();
void commit_products();
void wait_products_pending(int pending);

template <int kPending, class Sum, int kCount>
void wait_products(Sum (&)[kCount]) {
    wait_products_pending(kPending);
}

template <class T, int kColumns>
void multiply_async(float (&d)[kColumns / 2], TileDescriptor a, TileDescriptor b) {
    emulator::multiply_tiles({d, a, nullptr, b, 0}, T::kBrain, emulator::kDense, kColumns);
}

template <class T, int kColumns, int kSelector>
void multiply_sparse_async(float (&d)[kColumns / 2], TileDescriptor a, TileDescriptor b, std::uint32_t metadata) {
    emulator::multiply_tiles({d, a, nullptr, b, metadata}, T::kBrain, kSelector, kColumns);
}

template <class T, int kColumns, int kSelector>
void multiply_sparse_async(float (&d)[kColumns / 2], const std::uint32_t (&a)[4], TileDescriptor b, std::uint32_t metadata) {
    emulator::multiply_tiles({d, nullptr, a, b, metadata}, T::kBrain, kSelector, kColumns);
}

template <int kCount>
void give_registers() {
    emulator::keep_registers(kCount);
}
template <int kCount>
void take_registers() {
    emulator::keep_registers(kCount);
}

}  // namespace sparsecore::cuda
