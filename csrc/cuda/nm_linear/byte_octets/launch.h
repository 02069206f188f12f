// Launch of the decode kernel for byte octets, E the type of their values; for .cu files.
#pragma once

#include "cuda/nm_linear/byte_octets/tiles.h"
#include "cuda/nm_linear/decode_launch.h"

namespace sparsecore::cuda {

template <class E>
void launch_byte_octets(const Int8DecodeArgs& a, std::uint64_t stream) {
    if (a.linear.m == 4) return launch_decode<ByteOctetTiles<E, 1, 4>>(a, stream);
    if (a.linear.n == 1) return launch_decode<ByteOctetTiles<E, 1, 8>>(a, stream);
    launch_decode<ByteOctetTiles<E, 2, 8>>(a, stream);
}

}  // namespace sparsecore::cuda
