// What every kernel includes when it is built for the emulator; read once for all of them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "cuda/emulator/block.h"
