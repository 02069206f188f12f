#include "cuda/attention/prefill/plain_prefill.h"
#include "cuda/attention/prefill/prefill.h"
#include "cuda/runtime/launch.h"

namespace sparsecore::cuda {

namespace {

constexpr int kMostTileWidth = 256, kPlainBlocksAtOnce = 4;
constexpr std::int64_t kMostScratch = (std::int64_t{32} << 20) / 4;

std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

template <class T>
void launch_plain(const PrefillArgs& a, std::uint64_t stream) {
    const std::int64_t groups = (std::int64_t{a.queries} + kPlainQueries - 1) / kPlainQueries * a.heads * a.batch;
    const std::int64_t at_once = smaller(a.scratch_blocks, std::int64_t{multiprocessors()} * kPlainBlocksAtOnce);
    launch("cuda_scored_attention", plain_prefill<T>, {static_cast<unsigned>(smaller(groups, at_once))}, kPlainThreads,
           shared_bytes<PlainShared>(), stream, a);
}

bool takes_tiles(const PrefillArgs& a, core::DType dtype) {
    return dtype != core::DType::F32 && a.width <= kMostTileWidth && a.value_width <= kMostTileWidth && a.value_keep >= 1.0;
}

// What a tensor map can describe: no tokens that overlap.
bool fits_map(const PrefillTensor& t, const PrefillArgs& a, int heads, int tokens, int width) {
    const bool apart = t.token_stride >= width || tokens == 1;
    return t.in_units && apart && (t.batch_stride > 0 || a.batch == 1) && (t.head_stride > 0 || heads == 1);
}

// The Hopper kernel has blocks of 128 queries, heads up to 128 wide, and queries in shared memory as they are, without a sign.
bool fits_sm90(const PrefillArgs& a) {
    const std::int64_t blocks = ((std::int64_t{a.queries} + 127) / 128) * a.heads * a.batch;
    const bool sizes = a.queries > 64 && a.keys > 0 && a.width > 0 && a.value_width > 0 && a.width <= 128 && a.value_width <= 128;
    const bool lists = a.lists.offsets == nullptr || a.lists.query_block == 128;
    return sizes && lists && !a.negative && blocks <= INT32_MAX && fits_map(a.q, a, a.heads, a.queries, a.width) &&
           fits_map(a.k, a, a.key_heads, a.keys, a.width) && fits_map(a.v, a, a.key_heads, a.keys, a.value_width);
}

void launch_tiles(const PrefillArgs& a, core::DType dtype, std::uint64_t stream) {
    const bool half = dtype == core::DType::F16;
    if (fits_sm90(a) && capability() == 90) return half ? sm90_prefill_f16(a, stream) : sm90_prefill_bf16(a, stream);
    half ? sm80_prefill_f16(a, stream) : sm80_prefill_bf16(a, stream);
}

}  // namespace

std::int64_t prefill_scratch_floats(std::int64_t rows, std::int64_t keys) {
    const std::int64_t stride = prefill_scratch_stride(keys);
    if (rows == 0 || stride == 0) return 0;
    const std::int64_t blocks = smaller(rows, std::int64_t{multiprocessors()} * kPlainBlocksAtOnce), fit = kMostScratch / stride;
    return stride * (fit < 1 ? 1 : smaller(blocks, fit));
}

void prefill_launch(const PrefillArgs& args, core::DType dtype, std::uint64_t stream) {
    if (std::int64_t{args.batch} * args.heads * args.queries == 0) return;
    PrefillArgs plain = args;
    if (takes_tiles(args, dtype)) {
        launch_tiles(args, dtype, stream);
    } else {
        plain.odd_count = nullptr;  // all queries, none of which was computed yet
    }
    switch (dtype) {
        case core::DType::F32: return launch_plain<F32>(plain, stream);
        case core::DType::F16: return launch_plain<F16>(plain, stream);
        default: return launch_plain<BF16>(plain, stream);
    }
}

}  // namespace sparsecore::cuda
