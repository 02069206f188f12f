#include "cuda/golden/replay.h"

namespace sparsecore::cuda::golden {

// Cases of capability 90 are compiled for Hopper alone.
bool runs_here(const Case& wanted) {
    return wanted.capability == 90 ? capability() == 90 : capability() >= wanted.capability;
}

void in_every_schedule(const std::function<void()>& work) { work(); }

}  // namespace sparsecore::cuda::golden
