// What weights take in the layouts of the device.
#include <set>

#include "cuda/resident.h"
#include "weights.h"

using namespace sparsecore;
using namespace weights;

namespace {

int64_t stored_bytes(const Geometry& g) {
    const formats::PartBytes bytes = formats::part_bytes(g);
    return bytes.values + bytes.positions + bytes.offsets + bytes.scales;
}

int64_t random_side() {
    const int64_t most = harness::pick<int64_t>({1, 4, 20, 70, 300, 2000});
    return harness::pick<int64_t>({harness::integer(0, most), harness::integer(1, most / 16 + 1) * 16});
}

Weight random_weight() {
    int64_t rows = random_side(), cols = random_side();
    while (rows * cols > 300000) (rows > cols ? rows : cols) /= 8;
    const double density = harness::pick<double>({0.0, 0.02, 0.1, 0.5, 1.0});
    switch (harness::integer(0, 4)) {
        case 0: return random_bitmask(rows, cols, random_float_type(), density);
        case 1: return random_blocks(rows, cols, harness::pick<int64_t>({4, 7, 16, 32, 64, 128}), harness::pick<int64_t>({4, 7, 16, 32, 64, 128}),
                                     random_float_type(), density);
        case 2: return random_nm(rows, cols, 2, 4, DType::I8, harness::integer(0, 1) == 1);
        case 3: {
            const int64_t m = harness::integer(2, 32);
            return random_nm(rows, cols, harness::integer(1, m - 1), m, random_float_type(), harness::integer(0, 1) == 1);
        }
        default: {
            const auto [n, m] = harness::pick<std::pair<int64_t, int64_t>>({{2, 4}, {1, 4}, {1, 8}, {2, 8}});
            return random_nm(rows, cols, n, m, harness::pick<DType>({DType::BF16, DType::F16, DType::I8}), harness::integer(0, 1) == 1);
        }
    }
}

}  // namespace

// The bound of docs/design.md, and the weight comes back from whatever layout it has.
TEST(cuda_layouts_take_little_more_than_the_stored_form) {
    std::set<uint32_t> met;
    for (int round = 0; round < 400; ++round) {
        Weight weight = random_weight();
        const Geometry& g = weight.geometry;
        const int64_t stored = stored_bytes(g), size = cuda::resident_size(weight.stored());
        CHECK(static_cast<double>(size) <= static_cast<double>(stored) * (g.kind == Kind::Bitmask ? 1.25 : 1.15) + 4096);
        Resident resident(size);
        cuda::resident_make(weight.stored(), resident.span);
        const formats::Resident opened = formats::open_resident(resident.span);
        met.insert(opened.layout);
        if (!cuda::is_cuda_layout(opened)) continue;
        Weight back = with_storage(g, Memory());
        cuda::resident_to_stored(resident.span, back.stored());
        CHECK(back.values.bytes == weight.values.bytes && back.positions.bytes == weight.positions.bytes);
    }
    for (uint32_t layout : {formats::kStoredLayout, cuda::kCudaLayout, cuda::kCudaTwoFourLayout, cuda::kCudaBlockLayout, cuda::kCudaOctetLayout,
                            cuda::kCudaBitmaskLayout, cuda::kCudaInt8Layout, cuda::kCudaByteOctetLayout}) {
        CHECK(met.count(layout) == 1);
    }
}
