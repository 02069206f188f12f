#include "cuda/nm_linear/byte_octets/tiles.h"
#include "cuda/nm_linear/decode_launch.h"
#include "cuda/nm_linear/int8/int8_linear.h"

namespace sparsecore::cuda {

void byte_octets_launch(const Int8Args& args, core::DType dtype, std::uint64_t stream) {
    const Int8DecodeArgs a = int8_decode_args(args, dtype);
    if (args.m == 4) return launch_decode<ByteOctetTiles<1, 4>>(a, stream);
    if (args.n == 1) return launch_decode<ByteOctetTiles<1, 8>>(a, stream);
    launch_decode<ByteOctetTiles<2, 8>>(a, stream);
}

}  // namespace sparsecore::cuda
