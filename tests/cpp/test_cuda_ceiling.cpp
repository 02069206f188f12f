// The kernels that measure the ceiling of Hopper's tensor cores multiply what they say, by the emulator in all its schedules.
#include "cuda/ceiling/rate.h"
#include "cuda/emulator/device.h"
#include "harness.h"
#include "on_device.h"

using namespace sparsecore;

namespace {

cuda::Bytes result(const cuda::RateKind& kind, const cuda::DeviceBytes& operands, int64_t tiles, int blocks) {
    const cuda::DeviceBytes out(cuda::Bytes(static_cast<size_t>(cuda::rate_out_bytes(blocks)), 0xff));  // NaN
    kind.launch(operands.get(), out.get(), tiles, blocks);
    return out.read();
}

}  // namespace

TEST(cuda_ceiling_kernels_multiply_every_tile) {
    const cuda::DeviceBytes operands(cuda::rate_operands(harness::random()()));
    const std::vector<cuda::RateKind> kinds = cuda::rate_kinds();
    const int64_t tiles = harness::integer(4, 6);  // the ring has four stages: refilled or read again
    const harness::OnDevice device(90);
    cuda::Bytes before;
    for (size_t i = 0; i < kinds.size(); ++i) {
        cuda::emulator::device().schedule = cuda::emulator::kSchedules[i];
        const cuda::Bytes out = result(kinds[i], operands, tiles, 1);
        // Kinds come in pairs: tiles that stay in place, and the same ones arriving anew.
        if (i % 2 == 1) CHECK(out == before);
        const auto* sums = reinterpret_cast<const float*>(out.data());
        for (size_t j = 0; j < out.size() / sizeof(float); j += 37) CHECK(sums[j] == sums[j]);
        before = out;
    }
    CHECK(kinds.size() == cuda::emulator::kSchedules.size());
    cuda::emulator::device().schedule = {};
    CHECK(cuda::rate_operations(10, 3) == 2.0 * 128 * 256 * 64 * 10 * 3);
}
