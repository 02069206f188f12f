// A software model of the AMX tile instructions, after the operation sections of Intel's Software Developer's Manual,
// volume 2 (LDTILECFG, TILEZERO, TILELOADD, TILESTORED, TDPBF16PS, TDPBSSD, TILERELEASE). Where the processor would fault
// it throws a core::Error of kind TileFault. Only builds with SPARSECORE_EMULATE_TILES have it.
#pragma once

#include <cstdint>

namespace sparsecore::cpu::tiles::model {

// Each thread has its own eight tiles, as each core has; they begin unconfigured.
void configure(const void* config);  // 64 bytes
void release();
void zero(int tile);
void load(int tile, const void* from, int64_t stride);
void store(int tile, void* to, int64_t stride);
void dpbf16ps(int sum, int a, int b);
void dpbssd(int sum, int a, int b);

}  // namespace sparsecore::cpu::tiles::model
