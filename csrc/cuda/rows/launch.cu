#include "cuda/rows/kernels.h"
#include "cuda/rows/rows.h"
#include "cuda/runtime/launch.h"

namespace sparsecore::cuda {

namespace {

// Kernels loop over what is more than a grid holds.
Grid grid_of(std::int64_t work, std::int64_t of_block) {
    const std::int64_t blocks = (work + of_block - 1) / of_block;
    return {static_cast<unsigned>(blocks < INT32_MAX ? blocks : INT32_MAX), 1, 1};
}

template <int kUnit>
void launch_unit(const RowsArgs& a, std::uint64_t stream) {
    const Grid grid = grid_of(a.batch * a.m, kRowsWarps);
    if (a.sources == nullptr) return launch("cuda_gather_rows", gather_rows_kernel<kUnit>, grid, kRowsThreads, 0, stream, a);
    launch("cuda_scatter_rows", scatter_rows_kernel<kUnit>, grid, kRowsThreads, 0, stream, a);
}

void launch_move(const RowsArgs& a, std::uint64_t stream) {
    switch (a.unit) {
        case 16: return launch_unit<16>(a, stream);
        case 8: return launch_unit<8>(a, stream);
        case 4: return launch_unit<4>(a, stream);
        case 2: return launch_unit<2>(a, stream);
        default: return launch_unit<1>(a, stream);
    }
}

}  // namespace

void gather_rows_launch(const RowsArgs& args, uint64_t stream) {
    if (args.batch == 0 || args.m == 0 || args.bytes == 0) return;
    launch_move(args, stream);
}

void scatter_rows_launch(const RowsArgs& args, uint64_t stream) {
    if (args.batch == 0 || args.m == 0 || args.bytes == 0 || args.rows == 0) return;
    const char* where = "cuda_scatter_rows";
    launch(where, clear_sources<kRowsThreads>, grid_of(args.batch * args.rows, kRowsThreads), kRowsThreads, 0, stream, args);
    launch(where, mark_sources<kRowsThreads>, grid_of(args.batch * args.m, kRowsThreads), kRowsThreads, 0, stream, args);
    launch_move(args, stream);
}

}  // namespace sparsecore::cuda
