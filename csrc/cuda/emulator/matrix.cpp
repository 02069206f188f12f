#include "cuda/emulator/matrix.h"

#include "cuda/emulator/number.h"

namespace sparsecore::cuda::emulator {

namespace {

constexpr int kRows = 16, kColumns = 8, kDepth = 16;

struct Load {
    std::uint32_t* tile;
    const unsigned char* row;
};

const Product& product(void* const* lanes, int lane) { return *static_cast<const Product*>(lanes[lane]); }

// Element (row, column) of the 16x16 fragment of A.
float a_element(void* const* lanes, int row, int column, bool brain) {
    const int lane = row % 8 * 4 + column % 8 / 2, index = row / 8 + column / 8 * 2;
    return number(half_word(product(lanes, lane).a[index], column % 2), brain);
}

float b_element(void* const* lanes, int row, int column, bool brain) {
    const int lane = column * 4 + row % 8 / 2;
    return number(half_word(product(lanes, lane).b[row / 8], row % 2), brain);
}

// The 16 elements of a row of A that are there, and the row of B that each of them meets.
struct RowOfA {
    float value[kDepth];
    int place[kDepth];
};

// The products of one result are exact in double, and their sum is rounded once; hardware keeps fewer bits of it. A pruned
// element multiplies nothing, not a zero: an infinity in B must not become NaN.
void add_products(void* const* lanes, int row, const RowOfA& a, bool brain) {
    for (int column = 0; column < kColumns; ++column) {
        double sum = 0.0;
        for (int i = 0; i < kDepth; ++i) {
            sum += static_cast<double>(a.value[i]) * b_element(lanes, a.place[i], column, brain);
        }
        float& d = product(lanes, row % 8 * 4 + column / 2).d[row / 8 * 2 + column % 2];
        d = static_cast<float>(d + sum);
    }
}

void run_dense(void* const* lanes, std::uint64_t brain) {
    for (int row = 0; row < kRows; ++row) {
        RowOfA a;
        for (int i = 0; i < kDepth; ++i) {
            a.value[i] = a_element(lanes, row, i, brain != 0);
            a.place[i] = i;
        }
        add_products(lanes, row, a, brain != 0);
    }
}

void run_sparse(void* const* lanes, std::uint64_t detail) {
    const bool brain = (detail & 1) != 0;
    const int selector = static_cast<int>(detail >> 1);
    for (int row = 0; row < kRows; ++row) {
        RowOfA a;
        for (int i = 0; i < kDepth; ++i) {
            const int lane = row % 8 * 4 + selector * 2 + i / 8;
            const std::uint32_t metadata = half_word(product(lanes, lane).metadata, row / 8);
            a.value[i] = a_element(lanes, row, i, brain);
            a.place[i] = kept_place(metadata, i % 8) + i / 8 * 16;
        }
        add_products(lanes, row, a, brain);
    }
}

}  // namespace

void load_matrix(std::uint32_t (&tile)[4], const void* row, bool transposed) {
    require_aligned(row, 16, "ldmatrix");
    Load operands{tile, static_cast<const unsigned char*>(row)};
    meet(Group::Warp, "ldmatrix", transposed, &operands, [](void* const* lanes, std::uint64_t transpose) {
        for (int index = 0; index < 4; ++index) {
            for (int lane = 0; lane < kWarpSize; ++lane) {
                std::uint16_t pair[2];
                for (int i = 0; i < 2; ++i) {
                    const int across = lane / 4, along = lane % 4 * 2 + i;
                    const int from_row = transpose ? along : across, from_column = transpose ? across : along;
                    const auto* start = static_cast<const Load*>(lanes[index * 8 + from_row])->row;
                    std::memcpy(&pair[i], start + from_column * 2, 2);
                }
                static_cast<Load*>(lanes[lane])->tile[index] = pair[0] | static_cast<std::uint32_t>(pair[1]) << 16;
            }
        }
    });
}

void multiply(const Product& operands, bool brain) {
    Product own = operands;
    meet(Group::Warp, "mma.m16n8k16", brain, &own, run_dense);
}

void multiply_sparse(const Product& operands, bool brain, int selector) {
    Product own = operands;
    const auto detail = static_cast<std::uint64_t>(brain) | static_cast<std::uint64_t>(selector) << 1;
    meet(Group::Warp, "mma.sp.m16n8k32", detail, &own, run_sparse);
}

}  // namespace sparsecore::cuda::emulator
