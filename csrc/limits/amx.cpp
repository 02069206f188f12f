#include <immintrin.h>

#include "limits/kernels.h"

namespace sparsecore::limits {

namespace {

// Palette 1: eight tiles of 16 rows of 64 bytes. Offsets as the instruction defines them (Intel SDM, LDTILECFG).
struct alignas(64) TileConfig {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

constexpr int kTileBytes = 1024;

void load_tiles(const void* state) {
    const TileConfig config;
    _tile_loadconfig(&config);
    const auto* memory = static_cast<const char*>(state);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, memory, 64);
    _tile_loadd(5, memory + kTileBytes, 64);
    _tile_loadd(6, memory + 2 * kTileBytes, 64);
    _tile_loadd(7, memory + 3 * kTileBytes, 64);
}

void store_tiles(void* state) {
    auto* memory = static_cast<char*>(state);
    _tile_stored(0, memory, 64);
    _tile_stored(1, memory + kTileBytes, 64);
    _tile_stored(2, memory + 2 * kTileBytes, 64);
    _tile_stored(3, memory + 3 * kTileBytes, 64);
    _tile_release();
}

}  // namespace

// Two tiles of each operand and four of sums, as a product of two by two tiles has them. Tile numbers are part of the
// instruction, so each line names its own.
int64_t bf16_amx(int64_t rounds, void* state) {
    load_tiles(state);
    for (int64_t round = 0; round < rounds; ++round) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    store_tiles(state);
    return rounds * 4 * 16 * 16 * 32 * 2;
}

int64_t int8_amx(int64_t rounds, void* state) {
    load_tiles(state);
    for (int64_t round = 0; round < rounds; ++round) {
        _tile_dpbssd(0, 4, 6);
        _tile_dpbssd(1, 4, 7);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
    }
    store_tiles(state);
    return rounds * 4 * 16 * 16 * 64 * 2;
}

}  // namespace sparsecore::limits
