// Where a kept value lies in octets (layout.h says why); for the host and for kernels.
#pragma once

#include "cuda/nm_linear/tile_args.h"
#include "cuda/ptx/thread.h"

namespace sparsecore::cuda {

constexpr int kOctetKept = 16, kOctetValues = 8;  // kept values of a row in a tile, of a lane

constexpr int octet_code_bits(int m) { return m == 4 ? 2 : 3; }

// `lane`: index of the value's lane among all of the weight; `index` of its 8 values, code `index` of its codes.
struct OctetPlace {
    std::int64_t lane;
    int index;
};

// The kept value `slot` of `row`.
SC_DEVICE OctetPlace octet_place(std::int64_t row, std::int64_t slot, std::int64_t column_tiles, int n, int m) {
    const int in_octet = n * 8 / m;  // kept values of an octet
    const int own = static_cast<int>(slot % kOctetKept), octet = own / in_octet, lower = static_cast<int>(row % kTileRows) / 8;
    const std::int64_t tile = row / kTileRows * column_tiles + slot / kOctetKept;
    return {tile * 32 + row % 8 * 4 + octet % 4, (octet / 4 * 2 + lower) * in_octet + own % in_octet};
}

}  // namespace sparsecore::cuda
