#include "cuda/nm_linear/int8/int8_linear.h"
#include "cuda/nm_linear/int8/sm80_launch.h"
#include "cuda/nm_linear/plan.h"

namespace sparsecore::cuda {

namespace {

// Ada and consumer Blackwell multiply fp8 by mma.sp; Hopper and data-centre Blackwell have that as products of fp16 only.
bool multiplies_fp8() { return capability() == 89 || capability() / 10 == 12; }

template <class T>
void launch_type(const Int8Args& a, core::DType dtype, std::uint64_t stream) {
    launch_quantise<T, E4M3>(a, stream);
    if (a.m != 4 || a.n != 2) return e4m3_octets_launch(a, dtype, stream);
    const bool many = a.call.tokens > kMostDecodeTokens;
    if (many && capability() == 90 && fits_sm90(a)) return e4m3_launch_sm90(a, dtype, stream);
    if (many && multiplies_fp8()) return launch_sm80<T, E4M3>(a, stream);
    e4m3_decode_launch(a, dtype, stream);
}

}  // namespace

void e4m3_linear_launch(const Int8Args& args, core::DType dtype, std::uint64_t stream) {
    switch (dtype) {
        case core::DType::F32: return launch_type<F32>(args, dtype, stream);
        case core::DType::F16: return launch_type<F16>(args, dtype, stream);
        default: return launch_type<BF16>(args, dtype, stream);
    }
}

}  // namespace sparsecore::cuda
