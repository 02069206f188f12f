#include "cuda/emulator/matrix_bytes.h"

#include "cuda/emulator/number.h"

namespace sparsecore::cuda {

namespace {

constexpr int kRows = 16, kColumns = 8, kKept = 32;

struct Product {
    std::int32_t* d;
    const std::uint32_t *a, *b;
    std::uint32_t metadata;
};

const Product& product(void* const* lanes, int lane) { return *static_cast<const Product*>(lanes[lane]); }

std::int32_t byte_of(std::uint32_t word, int index) { return static_cast<std::int8_t>(word >> (8 * index)); }

std::int32_t a_element(void* const* lanes, int row, int column) {
    return byte_of(product(lanes, row % 8 * 4 + column % 16 / 4).a[row / 8 + column / 16 * 2], column % 4);
}

std::int32_t b_element(void* const* lanes, int row, int column) {
    return byte_of(product(lanes, column * 4 + row % 16 / 4).b[row / 16], row % 4);
}

void run(void* const* lanes, std::uint64_t) {
    for (int row = 0; row < kRows; ++row) {
        int place[kKept];
        for (int i = 0; i < kKept; ++i) {
            const std::uint32_t metadata = product(lanes, row % 8 * 4 + i / 16 * 2 + row / 8).metadata;
            place[i] = i / 16 * 32 + emulator::kept_place(metadata, i % 16);
        }
        for (int column = 0; column < kColumns; ++column) {
            std::int32_t& d = product(lanes, row % 8 * 4 + column / 2).d[row / 8 * 2 + column % 2];
            for (int i = 0; i < kKept; ++i) d += a_element(lanes, row, i) * b_element(lanes, place[i], column);
        }
    }
}

}  // namespace

void multiply_sparse_bytes(std::int32_t (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[4],
                           std::uint32_t metadata) {
    Product own{d, a, b, metadata};
    emulator::meet(emulator::Group::Warp, "mma.sp.m16n8k64", 0, &own, run);
}

}  // namespace sparsecore::cuda
