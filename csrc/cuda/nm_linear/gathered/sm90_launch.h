// The launch of the Hopper kernel for one element type; its .cu files are compiled for sm_90a alone.
#pragma once

#include "cuda/nm_linear/gathered/gathered.h"
#include "cuda/nm_linear/gathered/sm90_gemm.h"
#include "cuda/runtime/launch.h"

namespace sparsecore::cuda {

// The same call for the tokens from `first` on that are transposed together.
inline GatheredArgs gathered_part(const GatheredArgs& a, std::int64_t first) {
    GatheredArgs part = a;
    part.x = static_cast<const std::uint16_t*>(a.x) + first * a.x_token_stride;
    part.out = static_cast<std::uint16_t*>(a.out) + first * a.out_token_stride;
    part.tokens = a.tokens - first < a.column_tokens ? a.tokens - first : a.column_tokens;
    return part;
}

template <class T>
void launch_gathered_sm90(const GatheredArgs& a, std::uint64_t stream) {
    for (std::int64_t first = 0; first < a.tokens; first += a.column_tokens) {
        const GatheredArgs part = gathered_part(a, first);
        const Grid grid{static_cast<unsigned>((a.rows + kSm90Rows - 1) / kSm90Rows),
                        static_cast<unsigned>((part.tokens + kSm90GatheredTokens - 1) / kSm90GatheredTokens)};
        transpose_launch(part, stream);
        launch("cuda_nm_linear", sm90_gathered_gemm<T>, grid, kSm90Threads, hopper_shared_bytes<Sm90GatheredShared>(), stream, part);
    }
}

}  // namespace sparsecore::cuda
