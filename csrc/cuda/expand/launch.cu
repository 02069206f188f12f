#include "cuda/expand/bitmask.h"
#include "cuda/expand/block.h"
#include "cuda/expand/expand.h"
#include "cuda/expand/nm.h"
#include "cuda/runtime/launch.h"

namespace sparsecore::cuda {

namespace {

// Enough blocks to fill any GPU; the kernels loop over the rest.
unsigned blocks_for(std::int64_t threads) {
    constexpr std::int64_t kMost = 1 << 16;
    const std::int64_t blocks = (threads + expand::kThreads - 1) / expand::kThreads;
    return static_cast<unsigned>(blocks < kMost ? blocks : kMost);
}

template <class Word>
void launch_layout(const ExpandCall& call, std::uint64_t stream) {
    const ExpandArgs& a = call.args;
    const auto queue = [&](auto kernel, std::int64_t threads) {
        launch("cuda_expand", kernel, Grid{blocks_for(threads)}, expand::kThreads, 0, stream, a);
    };
    const auto items = [&](std::int64_t columns) { return a.rows * ((a.cols + columns - 1) / columns); };
    switch (call.layout) {
        case ExpandLayout::Groups: return queue(expand::expand_groups<Word, expand::ChunkSlots<Word>>, items(a.second));
        case ExpandLayout::TwoFour: return queue(expand::expand_groups<std::uint16_t, expand::TwoFourSlots>, items(a.second));
        case ExpandLayout::TwoFourBytes: return queue(expand::expand_groups<std::uint8_t, expand::TwoFourByteSlots>, items(a.second));
        case ExpandLayout::Octets: return queue(expand::expand_groups<std::uint16_t, expand::OctetSlots>, items(a.second));
        case ExpandLayout::ByteOctets: return queue(expand::expand_groups<std::uint8_t, expand::ByteOctetSlots>, items(a.second));
        case ExpandLayout::Gathered: return queue(expand::expand_groups<std::uint16_t, expand::GatheredSlots>, items(a.second));
        case ExpandLayout::Blocks: return queue(expand::expand_blocks<Word, false>, items(kUnit));
        case ExpandLayout::TiledBlocks: return queue(expand::expand_blocks<std::uint16_t, true>, items(kUnit));
        case ExpandLayout::Bitmask: return queue(expand::expand_bitmask<Word>, (a.rows + 15) / 16 * ((a.cols + 63) / 64) * kWarpSize);
    }
}

template <class T>
void launch_repair(const RepairArgs& args, std::uint64_t stream) {
    launch("cuda_repair", expand::repair_products<T>, Grid{blocks_for(args.rows * args.columns)}, expand::kRepairThreads, 0, stream, args);
}

}  // namespace

void expand_launch(const ExpandCall& call, core::DType dtype, uint64_t stream) {
    if (call.args.rows == 0 || call.args.cols == 0) return;
    core::itemsize(dtype) == 4 ? launch_layout<std::uint32_t>(call, stream) : launch_layout<std::uint16_t>(call, stream);
}

void repair_launch(const RepairArgs& args, core::DType dtype, uint64_t stream) {
    if (args.rows == 0 || args.columns == 0) return;
    switch (dtype) {
        case core::DType::F32: return launch_repair<F32>(args, stream);
        case core::DType::F16: return launch_repair<F16>(args, stream);
        default: return launch_repair<BF16>(args, stream);
    }
}

}  // namespace sparsecore::cuda
