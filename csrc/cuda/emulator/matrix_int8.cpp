#include "cuda/emulator/matrix_int8.h"

#include "cuda/common/element.h"
#include "cuda/emulator/matrix_e4m3.h"
#include "cuda/emulator/number.h"

namespace sparsecore::cuda {

namespace {

constexpr int kRows = 16, kColumns = 8, kDepth = 32;  // kDepth: of A as it is stored

// d: sums of 32 bits, or fp32 where the bytes are E4M3.
struct Product {
    void* d;
    const std::uint32_t *a, *b;
    std::uint32_t metadata;
};

const Product& product(void* const* lanes, int lane) { return *static_cast<const Product*>(lanes[lane]); }

// With the bits of Byte, signed or not.
template <class Byte>
Byte a_element(void* const* lanes, int row, int column) {
    const int lane = row % 8 * 4 + column % 16 / 4, index = row / 8 + column / 16 * 2;
    return static_cast<Byte>(product(lanes, lane).a[index] >> (column % 4 * 8));
}

template <class Byte>
Byte b_element(void* const* lanes, int row, int column) {
    const int lane = column * 4 + row % 16 / 4;
    return static_cast<Byte>(product(lanes, lane).b[row / 16] >> (row % 4 * 8));
}

// D of one row and column.
template <class Sum>
Sum& result(void* const* lanes, int row, int column) {
    return static_cast<Sum*>(product(lanes, row % 8 * 4 + column / 2).d)[row / 8 * 2 + column % 2];
}

// Sums wrap around as those of the hardware do.
void add_to(void* const* lanes, int row, int column, std::int32_t sum) {
    auto& to = result<std::int32_t>(lanes, row, column);
    to = static_cast<std::int32_t>(static_cast<std::uint32_t>(to) + static_cast<std::uint32_t>(sum));
}

// The row of B that the kept element `index` of a row of a sparse A meets.
int place_of(void* const* lanes, int row, int index) {
    const std::uint32_t word = product(lanes, row % 8 * 4 + index / 16 * 2 + row / 8).metadata;
    return index / 16 * 32 + emulator::kept_place(word, index % 16);
}

template <class Byte>
void multiply_dense(void* const* lanes, std::uint64_t) {
    std::int32_t b_value[kColumns][kDepth];
    for (int i = 0; i < kDepth * kColumns; ++i) b_value[i / kDepth][i % kDepth] = b_element<std::int8_t>(lanes, i % kDepth, i / kDepth);
    for (int row = 0; row < kRows; ++row) {
        std::int32_t a_value[kDepth];
        for (int i = 0; i < kDepth; ++i) a_value[i] = a_element<Byte>(lanes, row, i);
        for (int column = 0; column < kColumns; ++column) {
            std::int32_t sum = 0;
            for (int i = 0; i < kDepth; ++i) sum += a_value[i] * b_value[column][i];
            add_to(lanes, row, column, sum);
        }
    }
}

}  // namespace

void multiply_bytes(std::int32_t (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
    Product own{d, a, b, 0};
    emulator::meet(emulator::Group::Warp, "mma.m16n8k32.u8.s8", 0, &own, multiply_dense<std::uint8_t>);
}

void multiply_signed_bytes(std::int32_t (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
    Product own{d, a, b, 0};
    emulator::meet(emulator::Group::Warp, "mma.m16n8k32.s8.s8", 0, &own, multiply_dense<std::int8_t>);
}

void multiply_sparse_bytes(std::int32_t (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[4],
                           std::uint32_t metadata) {
    Product own{d, a, b, metadata};
    emulator::meet(emulator::Group::Warp, "mma.sp.m16n8k64.s8", 0, &own, [](void* const* lanes, std::uint64_t) {
        for (int row = 0; row < kRows; ++row) {
            int place[kDepth];
            for (int i = 0; i < kDepth; ++i) place[i] = place_of(lanes, row, i);
            for (int column = 0; column < kColumns; ++column) {
                std::int32_t sum = 0;
                for (int i = 0; i < kDepth; ++i) {
                    sum += a_element<std::int8_t>(lanes, row, i) * b_element<std::int8_t>(lanes, place[i], column);
                }
                add_to(lanes, row, column, sum);
            }
        }
    });
}

// The products of one result are exact in double, and their sum is rounded once; hardware keeps fewer bits of it.
void multiply_sparse_e4m3(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[4], std::uint32_t metadata) {
    Product own{d, a, b, metadata};
    emulator::meet(emulator::Group::Warp, "mma.sp.m16n8k64.e4m3", 0, &own, [](void* const* lanes, std::uint64_t) {
        const auto number = [](std::uint8_t bits) { return static_cast<double>(to_float(E4M3{bits})); };
        for (int row = 0; row < kRows; ++row) {
            for (int column = 0; column < kColumns; ++column) {
                double sum = 0.0;
                for (int i = 0; i < kDepth; ++i) {
                    sum += number(a_element<std::uint8_t>(lanes, row, i)) *
                           number(b_element<std::uint8_t>(lanes, place_of(lanes, row, i), column));
                }
                auto& to = result<float>(lanes, row, column);
                to = static_cast<float>(to + sum);
            }
        }
    });
}

}  // namespace sparsecore::cuda
