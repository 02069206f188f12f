#include "cuda/nm_linear/decode_launch.h"
#include "cuda/nm_linear/int8/int8_linear.h"
#include "cuda/nm_linear/int8/tiles.h"

namespace sparsecore::cuda {

void e4m3_decode_launch(const Int8Args& args, core::DType dtype, std::uint64_t stream) {
    launch_decode<ByteTiles<E4M3>>(int8_decode_args(args, dtype), stream);
}

}  // namespace sparsecore::cuda
