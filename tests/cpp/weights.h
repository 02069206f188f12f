// Random weights in stored form, for tests.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "core/buffer.h"
#include "core/dtype.h"
#include "formats/bitmask.h"
#include "formats/bits.h"
#include "formats/block.h"
#include "formats/nm.h"
#include "formats/stored.h"
#include "harness.h"

namespace weights {

namespace formats = sparsecore::formats;
using sparsecore::core::AlignedBuffer;
using sparsecore::core::DType;
using sparsecore::core::Span;
using sparsecore::formats::Geometry;
using sparsecore::formats::Kind;
using sparsecore::formats::Stored;

// Bytes of exactly the wanted length, so that a sanitizer sees one step too far.
struct Memory {
    std::vector<uint8_t> bytes;
    explicit Memory(int64_t size = 0) : bytes(static_cast<size_t>(size)) {}
    void* data() { return bytes.data(); }
};

struct Weight {
    Geometry geometry;
    Memory dense, values, positions, offsets, scales;
    Span dense_span() {
        return sparsecore::core::make_span(dense.data(), geometry.dtype, {geometry.rows, geometry.cols});
    }
    Stored stored() {
        return sparsecore::formats::stored_view(geometry, values.data(), positions.data(), offsets.data(),
                                                scales.data());
    }
};

inline Weight with_storage(const Geometry& g, Memory dense) {
    const auto bytes = part_bytes(g);
    Memory scales(bytes.scales);
    for (int64_t row = 0; row * 4 < bytes.scales; ++row) {
        static_cast<float*>(scales.data())[row] = std::fabs(harness::normal()) + 0.01f;
    }
    return {g, std::move(dense), Memory(bytes.values), Memory(bytes.positions), Memory(bytes.offsets), std::move(scales)};
}

inline void set_value(void* data, int64_t index, DType dtype, float value) {
    if (dtype == DType::I8) {
        static_cast<int8_t*>(data)[index] = static_cast<int8_t>(std::clamp(std::lrint(value * 50.0f), -127L, 127L));
        return;
    }
    if (dtype == DType::F8) {
        static_cast<uint8_t*>(data)[index] = sparsecore::core::f32_to_e4m3(value * 100.0f);
        return;
    }
    sparsecore::core::store_float(data, index, dtype, value);
}

// At most n non-zeros in every group, sometimes fewer, sometimes a negative zero.
inline Memory random_nm_dense(int64_t rows, int64_t cols, int64_t n, int64_t m, DType dtype) {
    Memory dense(rows * cols * itemsize(dtype));
    for (int64_t row = 0; row < rows; ++row) {
        for (int64_t begin = 0; begin < cols; begin += m) {
            const int64_t size = std::min(m, cols - begin);
            std::vector<int64_t> order(static_cast<size_t>(size));
            std::iota(order.begin(), order.end(), begin);
            std::shuffle(order.begin(), order.end(), harness::random());
            const int64_t most = std::min(n, size);
            const int64_t count = harness::integer(0, 4) == 0 ? harness::integer(0, most) : most;
            for (int64_t i = 0; i < count; ++i) {
                set_value(dense.data(), row * cols + order[static_cast<size_t>(i)], dtype,
                          harness::integer(0, 30) == 0 ? -0.0f : harness::normal());
            }
        }
    }
    return dense;
}

inline Weight random_nm(int64_t rows, int64_t cols, int64_t n, int64_t m, DType dtype, bool codes) {
    const int64_t kept = formats::nm_kept_per_row(cols, n, m);
    Weight weight = with_storage({Kind::NM, dtype, rows, cols, n, m, rows * kept, codes},
                                 random_nm_dense(rows, cols, n, m, dtype));
    const Stored stored = weight.stored();
    Memory mask(rows * formats::bitmask_bytes(cols));
    const Span bitmask = make_span(mask.data(), DType::U8, {rows, formats::bitmask_bytes(cols)});
    formats::nm_pack(weight.dense_span(), n, m, stored.values, bitmask);
    if (codes) {
        formats::nm_bitmask_to_codes(bitmask, cols, n, m, stored.positions);
    } else if (!mask.bytes.empty()) {
        std::memcpy(weight.positions.data(), mask.data(), mask.bytes.size());
    }
    return weight;
}

inline Memory random_dense(int64_t rows, int64_t cols, DType dtype, double density) {
    Memory dense(rows * cols * itemsize(dtype));
    for (int64_t i = 0; i < rows * cols; ++i) {
        if (std::uniform_real_distribution<double>()(harness::random()) < density) {
            set_value(dense.data(), i, dtype, harness::normal());
        }
    }
    return dense;
}

inline Weight bitmask_of(int64_t rows, int64_t cols, DType dtype, Memory dense) {
    const int64_t kept = formats::bitmask_count(make_span(dense.data(), dtype, {rows, cols}));
    Weight weight = with_storage({Kind::Bitmask, dtype, rows, cols, 0, 0, kept, false}, std::move(dense));
    const Stored stored = weight.stored();
    formats::bitmask_pack(weight.dense_span(), stored.values, stored.positions, stored.offsets);
    return weight;
}

inline Weight random_bitmask(int64_t rows, int64_t cols, DType dtype, double density) {
    return bitmask_of(rows, cols, dtype, random_dense(rows, cols, dtype, density));
}

inline Weight blocks_of(int64_t rows, int64_t cols, int64_t r, int64_t c, DType dtype, Memory dense) {
    const int64_t kept = formats::block_count(make_span(dense.data(), dtype, {rows, cols}), r, c);
    Weight weight = with_storage({Kind::Block, dtype, rows, cols, r, c, kept, false}, std::move(dense));
    const Stored stored = weight.stored();
    formats::block_pack(weight.dense_span(), r, c, stored.values, stored.positions, stored.offsets);
    return weight;
}

inline Weight random_block(int64_t rows, int64_t cols, int64_t r, int64_t c, DType dtype, double density) {
    return blocks_of(rows, cols, r, c, dtype, random_dense(rows, cols, dtype, density));
}

// Whole blocks are kept or pruned; rows of blocks may be empty.
inline Weight random_blocks(int64_t rows, int64_t cols, int64_t r, int64_t c, DType dtype, double density) {
    Weight all = random_block(rows, cols, r, c, dtype, 1.0);
    const int64_t across = (cols + c - 1) / c;
    std::vector<bool> kept(static_cast<size_t>(((rows + r - 1) / r) * across));
    for (size_t i = 0; i < kept.size(); ++i) kept[i] = std::uniform_real_distribution<double>()(harness::random()) < density;
    for (int64_t i = 0; i < rows * cols; ++i) {
        const int64_t block = i / cols / r * across + i % cols / c;
        if (!kept[static_cast<size_t>(block)]) set_value(all.dense.data(), i, dtype, 0.0f);
    }
    return blocks_of(rows, cols, r, c, dtype, std::move(all.dense));
}

inline DType random_float_type() { return harness::pick<DType>({DType::F32, DType::F16, DType::BF16}); }
inline int64_t random_size() {
    return harness::pick<int64_t>({0, 1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 64, 65, 100});
}
// As many rows, some more, or where that does not help fewer, so that a weight is laid out in tiles: fits(rows).
template <class Fits>
int64_t fitting_rows(int64_t rows, const Fits& fits) {
    for (int64_t more = 0; more < 64; ++more) {
        if (fits(rows + more)) return rows + more;
    }
    while (!fits(rows)) --rows;
    return rows;
}

inline Weight random_any() {
    const int64_t rows = random_size(), cols = random_size();
    const DType dtype = random_float_type();
    const int64_t kind = harness::integer(0, 2);
    if (kind == 0) {
        const int64_t m = harness::integer(2, 32);
        return random_nm(rows, cols, harness::integer(1, m - 1), m, dtype, harness::integer(0, 1) == 1);
    }
    const double density = harness::pick<double>({0.0, 0.05, 0.3, 1.0});
    if (kind == 1) return random_bitmask(rows, cols, dtype, density);
    return random_block(rows, cols, harness::integer(1, 20), harness::integer(1, 20), dtype, density);
}

// A resident weight in aligned memory of exactly its size.
struct Resident {
    AlignedBuffer buffer;
    Span span;
    explicit Resident(int64_t bytes) : buffer(bytes), span(make_span(buffer.as<void>(), DType::U8, {bytes})) {}
};

}  // namespace weights
