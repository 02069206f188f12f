#include "cuda/nm_linear/gathered/gathered.h"
#include "cuda/nm_linear/kernel.h"
#include "cuda/nm_linear/nm_linear.h"
#include "cuda/nm_linear/octets/octets.h"
#include "cuda/nm_linear/two_four/two_four.h"
#include "cuda/runtime/launch.h"

namespace sparsecore::cuda {

namespace {

template <class T, int kTokens>
void launch_general(const NmLinearArgs& args, std::uint64_t stream) {
    const std::int64_t tiles = (args.tokens + kTokens - 1) / kTokens;
    const Grid grid{static_cast<unsigned>((args.rows + kWarpsPerBlock - 1) / kWarpsPerBlock),
                    at_most_grid_y(tiles)};
    launch("cuda_nm_linear", nm_linear_kernel<T, kTokens>, grid, kWarpsPerBlock * kWarpSize, 0, stream, args);
}

template <class T>
void launch_tokens(const NmLinearArgs& args, std::uint64_t stream) {
    if (args.tokens == 1) {
        launch_general<T, 1>(args, stream);
    } else if (args.tokens == 2) {
        launch_general<T, 2>(args, stream);
    } else {
        launch_general<T, 4>(args, stream);
    }
}

void launch_call(const NmLinearArgs& args, core::DType dtype, std::uint64_t stream) {
    if (args.tokens == 0 || args.rows == 0) return;
    switch (dtype) {
        case core::DType::F32: launch_tokens<F32>(args, stream); break;
        case core::DType::F16: launch_tokens<F16>(args, stream); break;
        default: launch_tokens<BF16>(args, stream); break;
    }
}

void launch_call(const TwoFourArgs& args, core::DType dtype, std::uint64_t stream) {
    if (args.tokens == 0 || args.rows == 0) return;
    if (fits_sm90(args) && capability() == 90) {
        if (dtype == core::DType::F16) return two_four_launch_sm90_f16(args, stream);
        return two_four_launch_sm90_bf16(args, stream);
    }
    if (dtype == core::DType::F16) return two_four_launch_f16(args, stream);
    two_four_launch_bf16(args, stream);
}

void launch_call(const OctetArgs& args, core::DType dtype, std::uint64_t stream) {
    if (args.tokens == 0 || args.rows == 0) return;
    if (dtype == core::DType::F16) return octets_launch_f16(args, stream);
    octets_launch_bf16(args, stream);
}

void launch_call(const GatheredArgs& args, core::DType dtype, std::uint64_t stream) {
    if (args.tokens == 0 || args.rows == 0) return;
    if (args.columns != nullptr && capability() == 90) {
        if (dtype == core::DType::F16) return gathered_launch_sm90_f16(args, stream);
        return gathered_launch_sm90_bf16(args, stream);
    }
    if (dtype == core::DType::F16) return gathered_launch_f16(args, stream);
    gathered_launch_bf16(args, stream);
}

}  // namespace

int nm_linear_splits(core::DType dtype, int64_t tokens, int64_t rows, int64_t cols, int64_t n, int64_t m, uint32_t layout) {
    // Asking the device takes longer than to know that nothing is split.
    if (tokens > kMostDecodeTokens) return 1;
    return nm_linear_splits(dtype, tokens, rows, cols, n, m, layout, multiprocessors());
}

int64_t nm_transposed_tokens(int64_t tokens, int64_t rows, int64_t cols, uint32_t layout) {
    return nm_transposed_tokens(tokens, rows, cols, layout, capability(), multiprocessors());
}

void nm_linear_launch(const NmLinearCall& call, core::DType dtype, uint64_t stream) {
    std::visit([&](const auto& args) { launch_call(args, dtype, stream); }, call);
}

}  // namespace sparsecore::cuda
