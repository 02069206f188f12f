// The loops themselves, one file an instruction set.
#pragma once

#include <cstdint>

namespace sparsecore::limits {

// Multiplies and adds into kChains independent registers, enough to hide the latency of any unit; returns operations.
// `state` holds kStateBytes: where the registers start, different for each so that no compiler merges them, and end.
using PeakLoop = int64_t (*)(int64_t rounds, void* state);
constexpr int kChains = 12;
constexpr int64_t kStateBytes = 8192;

// Reads `lines` lines of 64 bytes; the result depends on all of them. kStreams places of the buffer are read in turns, as
// kernels read several panels: one stream alone leaves hardware prefetchers idle at every page.
constexpr int kStreams = 4;
using ReadLoop = uint64_t (*)(const void* data, int64_t lines);

uint64_t read_portable(const void* data, int64_t lines);
uint64_t read_avx2(const void* data, int64_t lines);
uint64_t read_avx512(const void* data, int64_t lines);

int64_t fp32_portable(int64_t rounds, void* state);
int64_t fp32_avx2(int64_t rounds, void* state);
int64_t fp32_avx512(int64_t rounds, void* state);
int64_t int8_avx512(int64_t rounds, void* state);
int64_t bf16_avx512(int64_t rounds, void* state);
int64_t bf16_amx(int64_t rounds, void* state);
int64_t int8_amx(int64_t rounds, void* state);

}  // namespace sparsecore::limits
