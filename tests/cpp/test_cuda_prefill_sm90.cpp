// One Hopper kernel of scored attention on the emulator: little to compile, for the planted faults.
#include "cuda/attention/prefill/sm90_launch.h"
#include "cuda_prefill_run.h"

using namespace sparsecore;
using namespace weights;
using namespace prefill;

TEST(cuda_prefill_kernel_of_sm90) {
    const harness::OnDevice device(90);
    const int64_t keys = 64 * harness::integer(4, 5) + harness::integer(1, 20);
    check_kernel([](const cuda::PrefillArgs& args) { cuda::launch_sm90_width<cuda::BF16, 64>(args, 0); },
                 {1, 1, 1, harness::integer(65, 128), keys, 16, 64}, harness::integer(0, 1) == 1);
}
