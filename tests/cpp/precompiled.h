// What every test of the emulator includes; read once for all of them.
#pragma once

#include <memory>
#include <variant>

#include "cuda/emulator/precompiled.h"
#include "harness.h"
