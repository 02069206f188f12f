#include "cuda/attention/prefill/sm90_launch.h"

namespace sparsecore::cuda {

void sm90_prefill_f16(const PrefillArgs& args, uint64_t stream) { launch_sm90_prefill<F16>(args, stream); }

}  // namespace sparsecore::cuda
