#include "cuda/ceiling/sm90_rate.h"

#include <random>

#include "core/dtype.h"
#include "cuda/ceiling/rate.h"
#include "cuda/runtime/launch.h"
#include "cuda/runtime/tensor_map.h"

namespace sparsecore::cuda {

namespace {

struct Operands {
    alignas(128) std::uint16_t a[kRateConsumers * kRateRows][kRateDepth];
    alignas(128) std::uint16_t b[kRateStages * kRateColumns][kRateDepth];
    std::uint32_t fragments[kRateFragments][4][128], metadata[kRateFragments][128];
};

template <class R>
void launch_rate(const void* memory, void* out, std::int64_t tiles, int blocks) {
    const auto* operands = static_cast<const Operands*>(memory);
    const RateArgs args{&operands->fragments[0][0][0], &operands->metadata[0][0], static_cast<float*>(out), tiles};
    const TensorMap a_map = matrix_map(operands->a, kRateConsumers * kRateRows, kRateDepth, kRateDepth, kRateRows);
    const TensorMap b_map = matrix_map(operands->b, kRateStages * kRateColumns, kRateDepth, kRateDepth, kRateColumns);
    launch("ceiling of wgmma", sm90_rate<R>, Grid{static_cast<unsigned>(blocks)}, kRateThreads, sizeof(RateShared<R>), 0, args, a_map,
           b_map);
}

template <bool kSparse, bool kRegisters, bool kFills>
RateKind kind(const char* name) {
    return {name, launch_rate<Rate<kSparse, kRegisters, kFills>>};
}

}  // namespace

std::vector<RateKind> rate_kinds() {
    return {kind<false, false, false>("dense"),
            kind<false, false, true>("dense, tiles arriving"),
            kind<true, false, false>("2:4, A in memory"),
            kind<true, false, true>("2:4, A in memory, tiles arriving"),
            kind<true, true, false>("2:4, A in registers"),
            kind<true, true, true>("2:4, A in registers, tiles arriving")};
}

Bytes rate_operands(std::uint64_t seed) {
    std::mt19937_64 engine(seed);
    std::normal_distribution<float> normal;
    const auto number = [&] {
        std::uint16_t bits = 0;
        core::store_float(&bits, 0, core::DType::BF16, normal(engine));
        return bits;
    };
    Bytes memory(sizeof(Operands));
    auto& operands = *reinterpret_cast<Operands*>(memory.data());
    for (auto& row : operands.a) {
        for (std::uint16_t& element : row) element = number();
    }
    for (auto& row : operands.b) {
        for (std::uint16_t& element : row) element = number();
    }
    for (auto& fragment : operands.fragments) {
        for (auto& word : fragment) {
            for (std::uint32_t& pair : word) pair = number() | static_cast<std::uint32_t>(number()) << 16;
        }
    }
    constexpr std::uint32_t kPlaces[] = {0x4, 0x8, 0xc, 0x9, 0xd, 0xe};  // two ascending places of four, in four bits
    for (auto& fragment : operands.metadata) {
        for (std::uint32_t& word : fragment) {
            word = 0;
            for (int group = 0; group < 8; ++group) word |= kPlaces[engine() % 6] << (4 * group);
        }
    }
    return memory;
}

std::int64_t rate_out_bytes(int blocks) {
    return static_cast<std::int64_t>(blocks) * kRateConsumers * kRateRows * kRateColumns * 4;
}

double rate_operations(std::int64_t tiles, int blocks) {
    return 2.0 * kRateRows * kRateColumns * kRateDepth * static_cast<double>(tiles) * kRateConsumers * blocks;
}

}  // namespace sparsecore::cuda
