#include "cuda/attention/prefill/sm80_launch.h"

namespace sparsecore::cuda {

void sm80_prefill_bf16(const PrefillArgs& args, uint64_t stream) { launch_sm80_prefill<BF16>(args, stream); }

}  // namespace sparsecore::cuda
