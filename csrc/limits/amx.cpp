#include "cpu/amx/tiles.h"
#include "limits/kernels.h"

namespace sparsecore::limits {

namespace {

namespace tiles = cpu::tiles;

constexpr int64_t kTileBytes = tiles::kRows * tiles::kRowBytes;

void load_tiles(const void* state) {
    tiles::Config config;
    for (int tile = 0; tile < 8; ++tile) {
        config.rows[tile] = static_cast<uint8_t>(tiles::kRows);
        config.row_bytes[tile] = static_cast<uint16_t>(tiles::kRowBytes);
    }
    tiles::configure(config);
    const auto* memory = static_cast<const char*>(state);
    tiles::zero<0>();
    tiles::zero<1>();
    tiles::zero<2>();
    tiles::zero<3>();
    tiles::load<4>(memory, tiles::kRowBytes);
    tiles::load<5>(memory + kTileBytes, tiles::kRowBytes);
    tiles::load<6>(memory + 2 * kTileBytes, tiles::kRowBytes);
    tiles::load<7>(memory + 3 * kTileBytes, tiles::kRowBytes);
}

void store_tiles(void* state) {
    auto* memory = static_cast<char*>(state);
    tiles::store<0>(memory, tiles::kRowBytes);
    tiles::store<1>(memory + kTileBytes, tiles::kRowBytes);
    tiles::store<2>(memory + 2 * kTileBytes, tiles::kRowBytes);
    tiles::store<3>(memory + 3 * kTileBytes, tiles::kRowBytes);
    tiles::release();
}

}  // namespace

// Two tiles of each operand and four of sums, as a product of two by two tiles has them.
int64_t bf16_amx(int64_t rounds, void* state) {
    load_tiles(state);
    for (int64_t round = 0; round < rounds; ++round) {
        tiles::multiply_bf16<0, 0>();
        tiles::multiply_bf16<0, 1>();
        tiles::multiply_bf16<1, 0>();
        tiles::multiply_bf16<1, 1>();
    }
    store_tiles(state);
    return rounds * 4 * 16 * 16 * 32 * 2;
}

int64_t int8_amx(int64_t rounds, void* state) {
    load_tiles(state);
    for (int64_t round = 0; round < rounds; ++round) {
        tiles::multiply_int8<0, 0>();
        tiles::multiply_int8<0, 1>();
        tiles::multiply_int8<1, 0>();
        tiles::multiply_int8<1, 1>();
    }
    store_tiles(state);
    return rounds * 4 * 16 * 16 * 64 * 2;
}

}  // namespace sparsecore::limits
