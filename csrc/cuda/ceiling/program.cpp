// Prints the rates of sm90_rate.h on this GPU, one JSON object a line: {"name": ..., "tflops": [each run]}.
//
//     sparsecore_ceiling [TILES]
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "core/error.h"
#include "cuda/ceiling/rate.h"
#include "cuda/runtime/launch.h"

namespace cuda = sparsecore::cuda;

namespace {

constexpr int kRuns = 7;
constexpr double kWarmSeconds = 0.3;

double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void measure(const cuda::RateKind& kind, const cuda::DeviceBytes& operands, std::int64_t tiles, int blocks) {
    const cuda::DeviceBytes out(cuda::Bytes(static_cast<std::size_t>(cuda::rate_out_bytes(blocks))));
    const auto run = [&] {
        const auto start = std::chrono::steady_clock::now();
        kind.launch(operands.get(), out.get(), tiles, blocks);
        cuda::synchronize();
        return seconds_since(start);
    };
    const auto start = std::chrono::steady_clock::now();
    do run(); while (seconds_since(start) < kWarmSeconds);
    std::printf("{\"name\": \"%s\", \"tflops\": [", kind.name);
    for (int i = 0; i < kRuns; ++i) {
        std::printf("%s%.1f", i == 0 ? "" : ", ", cuda::rate_operations(tiles, blocks) / run() / 1e12);
    }
    std::printf("]}\n");
}

}  // namespace

int main(int argc, char** argv) {
    constexpr std::int64_t kTiles = 40000;  // some 10 ms: the launch does not count
    try {
        if (cuda::capability() != 90) throw sparsecore::core::Error("UnsupportedError", "no Hopper GPU", "ceiling of wgmma");
        const cuda::DeviceBytes operands(cuda::rate_operands(1));
        const std::int64_t tiles = argc > 1 ? std::atoll(argv[1]) : kTiles;
        for (const cuda::RateKind& kind : cuda::rate_kinds()) measure(kind, operands, tiles, cuda::multiprocessors());
    } catch (const sparsecore::core::Error& error) {
        std::fprintf(stderr, "%s: %s: %s\n", error.kind.c_str(), error.where.c_str(), error.message.c_str());
        return 2;
    }
    return 0;
}
