// A place in a ring of stages that barriers in shared memory guard (ptx/mbarrier.h).
#pragma once

#include "cuda/ptx/thread.h"

namespace sparsecore::cuda {

// Stages are filled in turn; each round turns the parity of their barriers.
template <int kStages>
struct RingPlace {
    int stage = 0, parity = 0;

    SC_DEVICE void advance() {
        stage = stage + 1 == kStages ? 0 : stage + 1;
        parity ^= stage == 0;
    }
};

}  // namespace sparsecore::cuda
