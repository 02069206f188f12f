#include "cuda/emulator/device.h"
#include "cuda/golden/replay.h"

namespace sparsecore::cuda::golden {

bool runs_here(const Case&) { return true; }

void in_every_schedule(const std::function<void()>& work) {
    for (const emulator::Schedule schedule : emulator::kSchedules) {
        emulator::device().schedule = schedule;
        work();
    }
}

}  // namespace sparsecore::cuda::golden
