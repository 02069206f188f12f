#include "cpu/amx/tiles_model.h"

#include <cmath>
#include <cstring>
#include <string>

#include "core/dtype.h"
#include "core/error.h"

namespace sparsecore::cpu::tiles::model {

namespace {

constexpr int kTiles = 8, kMaxRows = 16, kMaxRowBytes = 64;

struct Tile {
    int rows = 0, row_bytes = 0;
    uint8_t data[kMaxRows][kMaxRowBytes] = {};
};

struct State {
    bool configured = false;
    Tile tiles[kTiles];
};

thread_local State state;

[[noreturn]] void fault(const char* instruction, const std::string& what) {
    throw core::Error("TileFault", std::string(instruction) + ": " + what, "amx", "what the instruction set allows");
}

Tile& configured_tile(const char* instruction, int index) {
    if (!state.configured) fault(instruction, "tiles are not configured");
    Tile& tile = state.tiles[index];
    if (tile.rows == 0) fault(instruction, "tile " + std::to_string(index) + " is not configured");
    return tile;
}

template <class T>
T element(const Tile& tile, int row, int column) {
    T value;
    std::memcpy(&value, tile.data[row] + column * static_cast<int>(sizeof(T)), sizeof(T));
    return value;
}

template <class T>
void set_element(Tile& tile, int row, int column, T value) {
    std::memcpy(tile.data[row] + column * static_cast<int>(sizeof(T)), &value, sizeof(T));
}

// The instruction counts subnormal inputs and results as zero, whatever MXCSR says.
float flush(float value) { return std::fabs(value) < 0x1p-126f ? std::copysign(0.0f, value) : value; }
float bf16(const Tile& tile, int row, int column) {
    return flush(core::bf16_to_f32(element<uint16_t>(tile, row, column)));
}
float multiply_add(float a, float b, float sum) { return flush(std::fma(a, b, sum)); }

// sum [rows of a, columns of b] += a [rows, groups] * b [groups, columns]; a group and a column are four bytes.
void check_product(const char* instruction, int sum, int a, int b) {
    const Tile &c = configured_tile(instruction, sum), &left = configured_tile(instruction, a);
    const Tile& right = configured_tile(instruction, b);
    if (sum == a || sum == b || a == b) fault(instruction, "one tile in two operands");
    if (c.row_bytes % 4 != 0 || left.row_bytes % 4 != 0 || right.row_bytes % 4 != 0) {
        fault(instruction, "rows that are no multiple of four bytes");
    }
    if (c.rows != left.rows || c.row_bytes != right.row_bytes || left.row_bytes / 4 != right.rows) {
        fault(instruction, "shapes do not fit");
    }
}

}  // namespace

void configure(const void* config) {
    const auto* bytes = static_cast<const uint8_t*>(config);
    state = State{};
    if (bytes[0] == 0) return;  // palette 0: the initial state
    if (bytes[0] != 1) fault("ldtilecfg", "unknown palette");
    if (bytes[1] != 0) fault("ldtilecfg", "start row is not zero");
    for (int i = 2; i < 16; ++i) {
        if (bytes[i] != 0) fault("ldtilecfg", "reserved bytes are not zero");
    }
    for (int i = 0; i < 16; ++i) {
        uint16_t row_bytes;
        std::memcpy(&row_bytes, bytes + 16 + 2 * i, 2);
        const int rows = bytes[48 + i];
        if (i >= kTiles && (row_bytes != 0 || rows != 0)) fault("ldtilecfg", "a tile past the eighth");
        if (row_bytes > kMaxRowBytes || rows > kMaxRows) fault("ldtilecfg", "a tile larger than 16 rows of 64 bytes");
        if ((row_bytes == 0) != (rows == 0)) fault("ldtilecfg", "a tile with rows or bytes alone");
        if (i < kTiles) {
            state.tiles[i].rows = rows;
            state.tiles[i].row_bytes = row_bytes;
        }
    }
    state.configured = true;
}

void release() { state = State{}; }

void zero(int index) {
    Tile& tile = configured_tile("tilezero", index);
    std::memset(tile.data, 0, sizeof(tile.data));
}

void load(int index, const void* from, int64_t stride) {
    Tile& tile = configured_tile("tileloadd", index);
    std::memset(tile.data, 0, sizeof(tile.data));
    for (int row = 0; row < tile.rows; ++row) {
        std::memcpy(tile.data[row], static_cast<const uint8_t*>(from) + row * stride, static_cast<size_t>(tile.row_bytes));
    }
}

void store(int index, void* to, int64_t stride) {
    const Tile& tile = configured_tile("tilestored", index);
    for (int row = 0; row < tile.rows; ++row) {
        std::memcpy(static_cast<uint8_t*>(to) + row * stride, tile.data[row], static_cast<size_t>(tile.row_bytes));
    }
}

// Even and odd products are summed apart over all groups, each step a fused multiply-add; then both are added, and that
// sum to the tile.
void dpbf16ps(int sum, int a, int b) {
    check_product("tdpbf16ps", sum, a, b);
    Tile& c = state.tiles[sum];
    const Tile &left = state.tiles[a], &right = state.tiles[b];
    for (int row = 0; row < c.rows; ++row) {
        for (int column = 0; column < c.row_bytes / 4; ++column) {
            float even = 0.0f, odd = 0.0f;
            for (int group = 0; group < left.row_bytes / 4; ++group) {
                even = multiply_add(bf16(left, row, 2 * group), bf16(right, group, 2 * column), even);
                odd = multiply_add(bf16(left, row, 2 * group + 1), bf16(right, group, 2 * column + 1), odd);
            }
            const float product = flush(even + odd);
            set_element(c, row, column, flush(flush(element<float>(c, row, column)) + product));
        }
    }
}

void dpbssd(int sum, int a, int b) {
    check_product("tdpbssd", sum, a, b);
    Tile& c = state.tiles[sum];
    const Tile &left = state.tiles[a], &right = state.tiles[b];
    for (int row = 0; row < c.rows; ++row) {
        for (int column = 0; column < c.row_bytes / 4; ++column) {
            auto total = element<uint32_t>(c, row, column);  // int32 that wraps
            for (int i = 0; i < left.row_bytes; ++i) {
                const int product = element<int8_t>(left, row, i) * element<int8_t>(right, i / 4, 4 * column + i % 4);
                total += static_cast<uint32_t>(product);
            }
            set_element(c, row, column, total);
        }
    }
}

}  // namespace sparsecore::cpu::tiles::model
