// The launch of the kernel on octets for one element type; included by one .cu file for each.
#pragma once

#include "cuda/nm_linear/decode_launch.h"
#include "cuda/nm_linear/octets/octets.h"
#include "cuda/nm_linear/octets/tiles.h"

namespace sparsecore::cuda {

template <class T>
void launch_octets(const OctetArgs& a, std::uint64_t stream) {
    if (a.m == 4) return launch_decode<OctetTiles<T, 1, 4>>(a, stream);
    if (a.n == 1) return launch_decode<OctetTiles<T, 1, 8>>(a, stream);
    launch_decode<OctetTiles<T, 2, 8>>(a, stream);
}

}  // namespace sparsecore::cuda
