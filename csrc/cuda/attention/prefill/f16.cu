#include "cuda/attention/prefill/sm80_launch.h"

namespace sparsecore::cuda {

void sm80_prefill_f16(const PrefillArgs& args, uint64_t stream) { launch_sm80_prefill<F16>(args, stream); }

}  // namespace sparsecore::cuda
