// The decode kernel on int8 tiles, 2:4 and byte octets: ragged shapes, any plan, exact sums.
#include "cuda/nm_linear/byte_octets/tiles.h"
#include "cuda/nm_linear/int8/tiles.h"
#include "cuda/nm_linear/plan.h"
#include "int8_problem.h"

using namespace sparsecore;
using namespace weights;

namespace {

template <class Tiles, int kTokens>
void decode(const cuda::Int8Args& args, DType dtype, Schedule schedule, int splits) {
    using Shape = cuda::DecodeShape<Tiles, kTokens>;
    cuda::Int8DecodeArgs a = cuda::int8_decode_args(args, dtype);
    std::vector<int32_t> partial(static_cast<size_t>(splits * a.tokens * a.rows));
    a.plan = {splits, partial.data()};
    const cuda::emulator::Launch shape{
        {blocks(a.row_tiles, Shape::kRowTiles), std::min(blocks(a.tokens, kTokens), 2u), static_cast<unsigned>(splits)},
        cuda::kDecodeThreads,
        sizeof(typename Shape::Shared)};
    cuda::emulator::launch(shape, schedule, [&] { cuda::nm_decode<Tiles, kTokens>(a); });
    if (splits == 1) return;
    cuda::emulator::launch({{2}, cuda::kDecodeThreads}, schedule, [&] { cuda::sum_splits<cuda::ScaledResults<cuda::I8>>(a, a.plan); });
}

template <class Tiles>
void decode(int64_t n, int64_t m, int64_t rows, int64_t cols, int64_t tokens) {
    const int splits = static_cast<int>(harness::integer(1, 3));
    const auto run = harness::pick<void (*)(const cuda::Int8Args&, DType, Schedule, int)>({decode<Tiles, 4>, decode<Tiles, 8>, decode<Tiles, 16>});
    check_int8(n, m, rows, cols, tokens, [&](const auto& args, DType dtype, Schedule schedule) { run(args, dtype, schedule, splits); });
}

void decode(int64_t n, int64_t m, int64_t rows, int64_t cols, int64_t tokens) {
    if (n == 2 && m == 4) return decode<cuda::ByteTiles<cuda::I8>>(n, m, rows, cols, tokens);
    if (m == 4) return decode<cuda::ByteOctetTiles<cuda::I8, 1, 4>>(n, m, rows, cols, tokens);
    if (n == 1) return decode<cuda::ByteOctetTiles<cuda::I8, 1, 8>>(n, m, rows, cols, tokens);
    decode<cuda::ByteOctetTiles<cuda::I8, 2, 8>>(n, m, rows, cols, tokens);
}

const std::vector<std::pair<int64_t, int64_t>> kPatterns{{2, 4}, {1, 4}, {1, 8}, {2, 8}};

}  // namespace

TEST(cuda_int8_decode_is_exact_in_the_emulator) {
    for (const auto& [n, m] : kPatterns) {
        for (int round = 0; round < 3; ++round) {
            decode(n, m, harness::pick<int64_t>({1, 7, 16, 33, 65}), harness::pick<int64_t>({0, 1, 3, 33, 64, 130, 515, 600}),
                   harness::pick<int64_t>({1, 2, 8, 9, 17}));
        }
    }
}

// Several chunks for a block, so that the ring of activations and the tiles ahead go round.
TEST(cuda_int8_decode_goes_round_its_ring_in_the_emulator) {
    const auto [n, m] = harness::pick(kPatterns);
    decode(n, m, harness::integer(14, 16), harness::integer(9 * 64, 12 * 64) * 8 * m / n / 2, 3);
}

// Splits that no workspace is for are not asked for; int8 tiles have theirs.
TEST(cuda_int8_splits_follow_the_tiles) {
    CHECK(cuda::nm_linear_splits(DType::I8, 1, 1024, 8192, 2, 4, cuda::kCudaInt8Layout, 132) == 5);        // 32 blocks, 64 tiles
    CHECK(cuda::nm_linear_splits(DType::I8, 1, 1024, 8192, 1, 8, cuda::kCudaByteOctetLayout, 132) == 4);   // 32 tiles
    CHECK(cuda::nm_linear_splits(DType::I8, 17, 1024, 8192, 2, 4, cuda::kCudaInt8Layout, 132) == 1);
}
