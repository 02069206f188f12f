// One sm_80 kernel of scored attention on the emulator: little to compile, for the planted faults.
#include "cuda/attention/prefill/sm80_prefill.h"
#include "cuda/runtime/launch.h"
#include "cuda_prefill_run.h"

using namespace sparsecore;
using namespace weights;
using namespace prefill;

TEST(cuda_prefill_kernel_of_sm80) {
    const auto launch = [](const cuda::PrefillArgs& args) {  // fewer blocks than there is work
        cuda::launch("test", cuda::sm80_prefill<cuda::BF16, 32>, {2}, cuda::kSm80PrefillThreads,
                     sizeof(cuda::Sm80PrefillShared<32>), 0, args);
    };
    check_kernel(launch, {1, 1, 2, harness::integer(20, 66), harness::integer(129, 150), 24, 32}, true);
}
