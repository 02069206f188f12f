#include "cuda/nm_linear/byte_octets/launch.h"
#include "cuda/nm_linear/int8/int8_linear.h"

namespace sparsecore::cuda {

void int8_octets_launch(const Int8Args& args, core::DType dtype, std::uint64_t stream) {
    launch_byte_octets<I8>(int8_decode_args(args, dtype), stream);
}

}  // namespace sparsecore::cuda
