#include "core/error.h"
#include "cuda/nm_linear/int8/int8_linear.h"
#include "cuda/nm_linear/int8/sm80_launch.h"

namespace sparsecore::cuda {

namespace {

template <class T>
void launch_type(const Int8Args& a, core::DType dtype, std::uint64_t stream) {
    launch_quantise<T, E4M3>(a, stream);
    if (fits_sm90(a) && capability() == 90) return e4m3_launch_sm90(a, dtype, stream);
    launch_sm80<T, E4M3>(a, stream);
}

}  // namespace

void e4m3_linear_launch(const Int8Args& args, core::DType dtype, std::uint64_t stream) {
    if (capability() != 89 && capability() != 90) {
        throw core::Error("UnsupportedError", "no products of fp8 on compute capability " + std::to_string(capability() / 10) + "." +
                          std::to_string(capability() % 10), "cuda_int8_linear", "8.9 or 9.0", "expand the weight");
    }
    switch (dtype) {
        case core::DType::F32: return launch_type<F32>(args, dtype, stream);
        case core::DType::F16: return launch_type<F16>(args, dtype, stream);
        default: return launch_type<BF16>(args, dtype, stream);
    }
}

}  // namespace sparsecore::cuda
