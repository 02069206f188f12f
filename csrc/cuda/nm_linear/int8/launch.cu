#include "cuda/nm_linear/int8/int8_linear.h"
#include "cuda/nm_linear/int8/quantise.h"
#include "cuda/nm_linear/int8/sm80_gemm.h"
#include "cuda/runtime/launch.h"

namespace sparsecore::cuda {

namespace {

template <class T, int kTokens>
void launch_gemm(const Int8Args& a, std::uint64_t stream) {
    const Grid grid{static_cast<unsigned>((a.call.rows + kInt8Rows - 1) / kInt8Rows),
                    at_most_grid_y((a.call.tokens + kTokens - 1) / kTokens)};
    launch("cuda_int8_linear", sm80_int8_gemm<T, kTokens>, grid, kGemmThreads, sizeof(typename Int8Shape<kTokens>::Shared), stream, a);
}

template <class T>
void launch_type(const Int8Args& a, std::uint64_t stream) {
    constexpr std::int64_t kFew = 32;
    launch("cuda_int8_linear", quantise_tokens<T>, Grid{at_most_grid_y(a.call.tokens)}, kQuantiseThreads, sizeof(QuantiseShared), stream, a);
    if (a.call.tokens <= kFew) return launch_gemm<T, kFew>(a, stream);
    launch_gemm<T, 128>(a, stream);
}

}  // namespace

void int8_linear_launch(const Int8Args& args, core::DType dtype, std::uint64_t stream) {
    if (args.call.tokens == 0 || args.call.rows == 0) return;
    switch (dtype) {
        case core::DType::F32: launch_type<F32>(args, stream); break;
        case core::DType::F16: launch_type<F16>(args, stream); break;
        default: launch_type<BF16>(args, stream); break;
    }
}

}  // namespace sparsecore::cuda
