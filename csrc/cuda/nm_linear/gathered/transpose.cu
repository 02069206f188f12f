#include "cuda/nm_linear/gathered/transpose.h"

#include "cuda/nm_linear/gathered/gathered.h"
#include "cuda/runtime/launch.h"

namespace sparsecore::cuda {

void transpose_launch(const GatheredArgs& args, std::uint64_t stream) {
    const Grid grid{at_most_grid_x((args.cols + kTransposedColumns - 1) / kTransposedColumns),
                    at_most_grid_y((args.tokens + kTransposedTokens - 1) / kTransposedTokens)};
    launch("cuda_nm_linear", transpose_tokens<kTransposeThreads>, grid, kTransposeThreads, shared_bytes<TransposeShared>(), stream, args);
}

}  // namespace sparsecore::cuda
