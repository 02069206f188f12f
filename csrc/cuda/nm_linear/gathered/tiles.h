// Gathered tiles in the decode kernel (nm_linear/decode.h): 2:4 tiles, whose activations are picked as they come.
#pragma once

#include "cuda/nm_linear/decode.h"
#include "cuda/nm_linear/gathered/pick.h"
#include "cuda/nm_linear/two_four/tiles.h"

namespace sparsecore::cuda {

template <class T, int kGroup>
struct GatheredTiles : TwoFourTiles<T> {
    using Args = GatheredArgs;

    // Two groups of the weight's columns. A block of the kernel has rows of one block of the weight.
    static SC_DEVICE void fetch(const Args& a, std::int64_t row_tile, std::uint16_t* to, std::int64_t token, std::int64_t column) {
        Words4 picked;
SC_UNROLL
        for (int i = 0; i < 2; ++i) {
            const std::int64_t group = column / 4 + i;
            Words4 units[kGroup / kUnit];
            load_group<kGroup>(a, token, group, units);
            const Words2 own = Picker<kGroup>(chosen_of(a, row_tile, group)).pick(units);
            picked.word[2 * i] = own.word[0];
            picked.word[2 * i + 1] = own.word[1];
        }
        *reinterpret_cast<Words4*>(to) = picked;
    }
};

}  // namespace sparsecore::cuda
