// ptx/matrix.h on the host.
#pragma once

#include "cuda/common/element.h"
#include "cuda/emulator/thread.h"

namespace sparsecore::cuda {

namespace emulator {

// Operands of one lane; `metadata` only of a sparse product.
struct Product {
    float* d;
    const std::uint32_t* a;
    const std::uint32_t* b;
    std::uint32_t metadata;
};

void load_matrix(std::uint32_t (&tile)[4], const void* row, bool transposed);
void multiply(const Product& operands, bool brain);
void multiply_sparse(const Product& operands, bool brain, int selector);

}  // namespace emulator

inline void load_matrix_x4(std::uint32_t (&tile)[4], const void* row) { emulator::load_matrix(tile, row, false); }
inline void load_matrix_x4_transposed(std::uint32_t (&tile)[4], const void* row) {
    emulator::load_matrix(tile, row, true);
}

template <class T>
void multiply(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
    emulator::multiply({d, a, b, 0}, T::kBrain);
}

template <class T, int kSelector>
void multiply_sparse(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[4], std::uint32_t metadata) {
    static_assert(sizeof(T) == 2 && (kSelector == 0 || kSelector == 1));
    emulator::multiply_sparse({d, a, b, metadata}, T::kBrain, kSelector);
}

}  // namespace sparsecore::cuda
