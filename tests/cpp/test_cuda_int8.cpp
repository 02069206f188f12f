// int8 2:4 weights: the product of a warp against its definition, the kernels bit for bit against the rule, the layout.
#include "cuda/nm_linear/int8/sm80_gemm.h"
#include "int8_problem.h"

using namespace sparsecore;
using namespace weights;

namespace {

template <class T, int kTokens>
void multiply(const cuda::Int8Args& args, Schedule schedule) {
    const unsigned y = blocks(args.call.tokens, kTokens);
    cuda::emulator::launch({{blocks(args.call.rows, cuda::kInt8Rows), y > 2 ? 2 : y},
                            cuda::kGemmThreads,
                            sizeof(typename cuda::Int8Shape<kTokens>::Shared)},
                           schedule, [&] { cuda::sm80_int8_gemm<T, kTokens>(args); });
}

// The kernel for many tokens, in blocks of kTokens.
template <int kTokens>
void multiply(const cuda::Int8Args& args, DType dtype, Schedule schedule) {
    if (dtype == DType::F32) return multiply<cuda::F32, kTokens>(args, schedule);
    if (dtype == DType::F16) return multiply<cuda::F16, kTokens>(args, schedule);
    multiply<cuda::BF16, kTokens>(args, schedule);
}

}  // namespace

TEST(emulator_multiplies_sparse_bytes) {
    int kept[16][32], place[16][32], whole[16][64] = {}, b[64][8];
    for (auto& row : b) {
        for (int& value : row) value = static_cast<int>(harness::integer(-128, 127));
    }
    for (int row = 0; row < 16; ++row) {
        for (int i = 0; i < 32; i += 2) {
            place[row][i] = static_cast<int>(harness::integer(0, 2));
            place[row][i + 1] = static_cast<int>(harness::integer(place[row][i] + 1, 3));
            for (int j = i; j < i + 2; ++j) {
                kept[row][j] = static_cast<int>(harness::integer(-128, 127));
                whole[row][i * 2 + place[row][j]] = kept[row][j];
            }
        }
    }
    const auto word = [](const auto& element) {
        std::uint32_t bits = 0;
        for (int i = 0; i < 4; ++i) bits |= (static_cast<std::uint32_t>(element(i)) & 0xff) << (8 * i);
        return bits;
    };
    cuda::emulator::launch({}, {}, [&] {
        const int g = static_cast<int>(cuda::thread_x()) / 4, t = static_cast<int>(cuda::thread_x()) % 4;
        std::uint32_t fa[4], fb[4], metadata = 0;
        for (int r = 0; r < 4; ++r) {
            fa[r] = word([&](int i) { return kept[g + r % 2 * 8][r / 2 * 16 + 4 * t + i]; });
            fb[r] = word([&](int i) { return b[16 * r + 4 * t + i][g]; });
        }
        for (int i = 0; i < 16; ++i) metadata |= static_cast<std::uint32_t>(place[g + t % 2 * 8][t / 2 * 16 + i]) << (2 * i);
        std::int32_t d[4] = {1, 2, 3, 4};
        cuda::multiply_sparse_bytes(d, fa, fb, metadata);
        for (int r = 0; r < 4; ++r) {
            std::int32_t sum = r + 1;
            for (int k = 0; k < 64; ++k) sum += whole[g + r / 2 * 8][k] * b[k][2 * t + r % 2];
            CHECK(d[r] == sum);
        }
    });
}

TEST(cuda_int8_linear_is_exact_in_the_emulator) {
    for (int round = 0; round < 4; ++round) {
        const int64_t rows = harness::pick<int64_t>({1, 65, 128, 130}), cols = harness::pick<int64_t>({0, 3, 100, 128, 515});
        check_int8(2, 4, rows, cols, harness::pick<int64_t>({1, 7, 32, 70}), multiply<32>);
    }
    check_int8(2, 4, harness::pick<int64_t>({1, 65}), harness::pick<int64_t>({100, 600}), harness::pick<int64_t>({17, 130}), multiply<128>);
}

TEST(cuda_int8_weights_come_back) {
    for (int round = 0; round < 40; ++round) {
        const auto [n, m] = harness::pick<std::pair<int64_t, int64_t>>({{2, 4}, {1, 4}, {1, 8}, {2, 8}});
        const int64_t cols = random_size(), rows = byte_rows(random_size(), cols, n, m);
        Weight weight = random_nm(rows, cols, n, m, DType::I8, harness::integer(0, 1) == 1), back = with_storage(weight.geometry, Memory());
        Resident resident(cuda::nm_resident_size(DType::I8, rows, cols, n, m));
        cuda::nm_resident_make(weight.stored(), resident.span);
        cuda::nm_resident_to_stored(resident.span, back.stored());
        CHECK(back.values.bytes == weight.values.bytes && back.positions.bytes == weight.positions.bytes);
        CHECK(back.scales.bytes == weight.scales.bytes);
    }
    CHECK_ERROR("UnsupportedError", cuda::nm_resident_size(DType::I8, 16, 16, 3, 4));
}
