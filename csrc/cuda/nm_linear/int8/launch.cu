#include "cuda/nm_linear/int8/int8_linear.h"
#include "cuda/nm_linear/int8/sm80_launch.h"
#include "cuda/nm_linear/plan.h"

namespace sparsecore::cuda {

namespace {

template <class T>
void launch_type(const Int8Args& a, core::DType dtype, std::uint64_t stream) {
    launch_quantise<T, I8>(a, stream);
    if (a.m != 4 || a.n != 2) return int8_octets_launch(a, dtype, stream);
    if (a.call.tokens <= kMostDecodeTokens) return int8_decode_launch(a, dtype, stream);
    if (fits_sm90(a) && capability() == 90) return int8_launch_sm90(a, dtype, stream);
    launch_sm80<T, I8>(a, stream);
}

}  // namespace

void int8_linear_launch(const Int8Args& args, core::DType dtype, std::uint64_t stream) {
    if (args.call.tokens == 0 || args.call.rows == 0) return;
    if (args.values == core::DType::F8) return e4m3_linear_launch(args, dtype, stream);
    switch (dtype) {
        case core::DType::F32: launch_type<F32>(args, dtype, stream); break;
        case core::DType::F16: launch_type<F16>(args, dtype, stream); break;
        default: launch_type<BF16>(args, dtype, stream); break;
    }
}

}  // namespace sparsecore::cuda
