// The rates of sm90_rate.h by name, with their operands.
#pragma once

#include <cstdint>
#include <vector>

#include "cuda/runtime/device_memory.h"

namespace sparsecore::cuda {

struct RateKind {
    const char* name;
    void (*launch)(const void* operands, void* out, std::int64_t tiles, int blocks);  // device memory
};

std::vector<RateKind> rate_kinds();

// Random operands, and the bytes of a result.
Bytes rate_operands(std::uint64_t seed);
std::int64_t rate_out_bytes(int blocks);
// Operations of one launch, a multiply and an add counting as two, pruned places included.
double rate_operations(std::int64_t tiles, int blocks);

}  // namespace sparsecore::cuda
