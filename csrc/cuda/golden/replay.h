// Running cases on the device of this build, and comparing what they give with what was recorded.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cuda/golden/case.h"
#include "cuda/golden/vector_file.h"

namespace sparsecore::cuda::golden {

// All cases, those first that run on every GPU.
const std::vector<Case>& all_cases();

// The device of this build (on_gpu.cpp, on_emulator.cpp): whether it runs a case, and `work` called once, or by the emulator in each of
// its schedules.
bool runs_here(const Case& wanted);
void in_every_schedule(const std::function<void()>& work);

// Draws an input and runs the case twice. core::Error where the outputs differ, which no instruction is to do.
Vector record(const Case& wanted, Random& random);

// The first difference between a recorded output and what the case gives for its input here; empty: none, or this device does not run
// it. core::Error where the vector is of no case, or of a case that has changed.
std::string difference(const Vector& recorded);

}  // namespace sparsecore::cuda::golden
