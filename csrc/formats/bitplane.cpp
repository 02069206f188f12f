#include "formats/bitplane.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "core/buffer.h"
#include "core/checked.h"
#include "core/error.h"
#include "core/parallel.h"

namespace sparsecore::formats {

namespace {

using core::DType;
using core::Span;

constexpr int64_t kValuesPerRange = 1 << 14;  // elements that are worth a thread

// A row of a stored tensor.
uint8_t* row_of(const Span& part, int64_t batch, int64_t head, int64_t slot) {
    const int64_t offset = batch * part.strides[0] + head * part.strides[1] + slot * part.strides[2];
    return part.as<uint8_t>() + offset * core::itemsize(part.dtype);
}

void require_part(const Span& part, const char* name, std::initializer_list<int64_t> shape, DType dtype) {
    core::require_shape(part, name, shape);
    core::require_dtype(part, name, dtype);
    if (part.ndim == 4 && part.shape[3] > 1 && part.strides[3] != 1) {
        throw core::Error("ShapeError", std::string(name) + " has gaps within a row", name, "the last stride 1");
    }
}

// Integers of a row into `integers`; the scale is returned.
float quantise(const float* row, int64_t width, int bits, int32_t* integers) {
    const auto limit = static_cast<float>((1 << (bits - 1)) - 1);
    uint32_t largest_bits = 0;  // magnitudes compare as their bits do, NaN above infinity
    for (int64_t d = 0; d < width; ++d) {
        const uint32_t magnitude = core::float_bits(row[d]) & 0x7fffffffu;
        largest_bits = magnitude > largest_bits ? magnitude : largest_bits;
    }
    if (largest_bits >= 0x7f800000u) {
        for (int64_t d = 0; d < width; ++d) integers[d] = 0;
        return std::numeric_limits<float>::quiet_NaN();
    }
    const float quotient = core::bits_float(largest_bits) / limit, scale = quotient == 0.0f ? 1.0f : quotient;
    // Adding and removing 1.5 * 2^23 rounds to an integer, half to even.
    constexpr float kRound = 12582912.0f;
    for (int64_t d = 0; d < width; ++d) {
        float integer = (row[d] / scale + kRound) - kRound;
        integer = integer > limit ? limit : integer < -limit ? -limit : integer;
        integers[d] = static_cast<int32_t>(integer);
    }
    return scale;
}

// Elements of a plane, all of 0 ... 15, two to a byte.
template <class Element>
void write_nibbles(int64_t width, uint8_t* out, Element&& element) {
    const int64_t half = (width + 1) / 2;
    for (int64_t d = 0; d < half; ++d) {
        const int32_t high = d + half < width ? element(d + half) : 0;
        out[d] = static_cast<uint8_t>(element(d) | high << 4);
    }
}

struct Append {
    const std::vector<Span>&keys, &values;
    const Span &new_keys, &new_values;
    int msb_bits, value_bits;
    KeyPlanes planes;

    void load(const Span& from, int64_t batch, int64_t head, int64_t token, float* row) const {
        const int64_t offset = batch * from.strides[0] + head * from.strides[1] + token * from.strides[2];
        for (int64_t d = 0; d < from.shape[3]; ++d) row[d] = core::load_float(from.data, offset + d * from.strides[3], from.dtype);
    }

    void store_dense(const Span& part, const Span& from, int64_t batch, int64_t head, int64_t token, int64_t slot,
                     float* row) const {
        uint8_t* to = row_of(part, batch, head, slot);
        const int64_t offset = batch * from.strides[0] + head * from.strides[1] + token * from.strides[2];
        if (part.dtype == from.dtype && (from.strides[3] == 1 || from.shape[3] == 1)) {
            const int64_t item = core::itemsize(part.dtype);
            std::memcpy(to, from.as<uint8_t>() + offset * item, static_cast<size_t>(from.shape[3] * item));
            return;
        }
        load(from, batch, head, token, row);
        for (int64_t d = 0; d < from.shape[3]; ++d) core::store_float(to, d, part.dtype, row[d]);
    }

    void store_scale(const Span& part, int64_t batch, int64_t head, int64_t slot, float scale) const {
        std::memcpy(row_of(part, batch, head, slot), &scale, sizeof(scale));
    }

    void store_key(int64_t batch, int64_t head, int64_t token, int64_t slot, float* row, int32_t* integers) const {
        if (msb_bits == 0) return store_dense(keys[0], new_keys, batch, head, token, slot, row);
        const int64_t width = new_keys.shape[3];
        load(new_keys, batch, head, token, row);
        store_scale(keys.back(), batch, head, slot, quantise(row, width, msb_bits + kLowBits, integers));
        int shift = kLowBits;  // of the bits below the plane
        for (int i = 1; i < planes.count - 1; ++i) shift += planes.plane[i].bits;
        for (int i = 0; i < planes.count; ++i) {
            const KeyPlane& plane = planes.plane[i];
            uint8_t* to = row_of(keys[static_cast<size_t>(i)], batch, head, slot);
            if (i > 0) shift -= plane.bits;
            // Of all planes but the first only the bits that are their own.
            const int32_t mask = i == 0 ? -1 : (1 << plane.bits) - 1;
            const auto element = [&](int64_t d) { return ((integers[d] >> shift) & mask) + plane.offset; };
            if (plane.nibbles) {
                write_nibbles(width, to, element);
            } else {
                for (int64_t d = 0; d < width; ++d) to[d] = static_cast<uint8_t>(element(d));
            }
        }
    }

    void store_value(int64_t batch, int64_t head, int64_t token, int64_t slot, float* row, int32_t* integers) const {
        if (value_bits == 0) return store_dense(values[0], new_values, batch, head, token, slot, row);
        load(new_values, batch, head, token, row);
        store_scale(values[1], batch, head, slot, quantise(row, new_values.shape[3], value_bits, integers));
        uint8_t* to = row_of(values[0], batch, head, slot);
        for (int64_t d = 0; d < new_values.shape[3]; ++d) to[d] = static_cast<uint8_t>(integers[d]);
    }
};

void check_positions(const Span& positions, int64_t tokens, int64_t slots) {
    for (int64_t b = 0; b < positions.shape[0]; ++b) {
        const int64_t slot = positions.as<const int64_t>()[b * positions.strides[0]];
        if (slot < 0 || tokens > slots || slot > slots - tokens) {
            throw core::Error("IndexTableError", "tokens do not fit into the store at " + std::to_string(slot), "positions",
                              "0 to " + std::to_string(slots - tokens));
        }
    }
}

void check_rows(const Span& index, const Span& counts, int64_t slots) {
    for (int64_t b = 0; b < index.shape[0]; ++b) {
        const int64_t count = counts.as<const int64_t>()[b * counts.strides[0]];
        bool right = count >= 0 && count <= index.shape[1];
        int64_t last = -1;
        for (int64_t i = 0; right && i < count; ++i) {
            const int64_t row = index.as<const int64_t>()[b * index.strides[0] + i * index.strides[1]];
            right = row > last && row < slots;
            last = row;
        }
        if (!right) {
            throw core::Error("IndexTableError", "rows to keep are not ascending slots", "index",
                              "ascending, 0 <= row < " + std::to_string(slots));
        }
    }
}

}  // namespace

KeyPlanes key_planes(int msb_bits, int64_t width) {
    if (msb_bits < 4 || msb_bits > 12 || msb_bits % 2 != 0) {
        throw core::Error("InvalidValueError", std::to_string(msb_bits) + " high bits", "msb_bits", "4, 6, 8, 10 or 12");
    }
    const int64_t half = (width + 1) / 2;
    KeyPlanes planes;
    planes.plane[planes.count++] = msb_bits == 4 ? KeyPlane{half, true, 8, 0} : KeyPlane{width, false, 128, 0};
    if (msb_bits > 8) planes.plane[planes.count++] = {half, true, 0, msb_bits - 8};
    planes.plane[planes.count++] = {half, true, 0, kLowBits};
    return planes;
}

void check_kv_append(const std::vector<Span>& keys, const std::vector<Span>& values, const Span& k, const Span& v,
                     const Span& positions, const Span* pages, int msb_bits, int value_bits) {
    core::require_shape(k, "new_keys", {-1, -1, -1, -1});
    core::require_float(k, "new_keys");
    core::require_shape(v, "new_values", {k.shape[0], k.shape[1], k.shape[2], -1});
    core::require_float(v, "new_values");
    core::require_shape(positions, "positions", {k.shape[0]});
    core::require_dtype(positions, "positions", DType::I64);
    const KeyPlanes planes = msb_bits == 0 ? KeyPlanes() : key_planes(msb_bits, k.shape[3]);
    const size_t parts = msb_bits == 0 ? 1 : static_cast<size_t>(planes.count) + 1;
    if (keys.size() != parts || values.size() != (value_bits == 0 ? 1 : 2)) {
        throw core::Error("ShapeError", "tensors of the store are missing or too many", "keys, values",
                          std::to_string(parts) + " of keys, 1 or 2 of values");
    }
    if (value_bits != 0 && (value_bits < 4 || value_bits > 8)) {
        throw core::Error("InvalidValueError", "value_bits is " + std::to_string(value_bits), "value_bits", "0 or 4 to 8");
    }
    if (pages != nullptr) {
        core::require_shape(*pages, "pages", {k.shape[0], -1});
        core::require_dtype(*pages, "pages", DType::I32);
    }
    const int64_t heads = k.shape[1];
    core::require_shape(keys[0], "keys", {pages == nullptr ? k.shape[0] : -1, heads, -1, -1});
    const int64_t owners = keys[0].shape[0], slots = keys[0].shape[2];
    if (msb_bits == 0) {
        core::require_float(keys[0], "keys");
        require_part(keys[0], "keys", {owners, heads, slots, k.shape[3]}, keys[0].dtype);
    } else {
        for (int i = 0; i < planes.count; ++i) {
            require_part(keys[static_cast<size_t>(i)], "keys", {owners, heads, slots, planes.plane[i].bytes}, DType::U8);
        }
        require_part(keys.back(), "key scales", {owners, heads, slots}, DType::F32);
    }
    if (value_bits == 0) core::require_float(values[0], "values");
    const DType stored = value_bits == 0 ? values[0].dtype : DType::I8;
    require_part(values[0], "values", {owners, heads, slots, v.shape[3]}, stored);
    if (value_bits != 0) require_part(values[1], "value scales", {owners, heads, slots}, DType::F32);
    std::vector<Span> all = keys;
    all.insert(all.end(), values.begin(), values.end());
    for (size_t i = 0; i < all.size(); ++i) {
        core::require_disjoint(all[i], "store", k, "new_keys");
        core::require_disjoint(all[i], "store", v, "new_values");
        for (size_t j = 0; j < i; ++j) core::require_disjoint(all[i], "store", all[j], "store");
    }
}

void check_kv_compact(const std::vector<Span>& stored, const Span& index, const Span& counts) {
    core::require_shape(index, "index", {-1, -1});
    core::require_dtype(index, "index", DType::I64);
    core::require_shape(counts, "counts", {index.shape[0]});
    core::require_dtype(counts, "counts", DType::I64);
    if (stored.empty()) throw core::Error("ShapeError", "no tensors", "stored", "at least one");
    const int64_t heads = stored[0].shape[1], slots = stored[0].shape[2];
    for (const Span& part : stored) {
        if (part.ndim == 3) {
            require_part(part, "stored", {index.shape[0], heads, slots}, part.dtype);
        } else {
            require_part(part, "stored", {index.shape[0], heads, slots, -1}, part.dtype);
        }
        core::require_disjoint(part, "stored", index, "index");
    }
}

void kv_append(const std::vector<Span>& keys, const std::vector<Span>& values, const Span& new_keys,
               const Span& new_values, const Span& positions, int msb_bits, int value_bits, int threads) {
    check_kv_append(keys, values, new_keys, new_values, positions, nullptr, msb_bits, value_bits);
    check_positions(positions, new_keys.shape[2], keys[0].shape[2]);
    const KeyPlanes planes = msb_bits == 0 ? KeyPlanes{} : key_planes(msb_bits, new_keys.shape[3]);
    const Append call{keys, values, new_keys, new_values, msb_bits, value_bits, planes};
    const int64_t tokens = new_keys.shape[2], heads = new_keys.shape[1], rows = new_keys.shape[0] * heads * tokens;
    const int64_t widest = std::max<int64_t>(1, std::max(new_keys.shape[3], new_values.shape[3]));
    core::parallel_for(0, rows, core::ceil_div(kValuesPerRange, widest), threads, [&](int64_t begin, int64_t end) {
        thread_local core::AlignedBuffer memory;
        auto* row = static_cast<float*>(memory.reserve(core::checked_mul(widest, 8, "row")));
        auto* integers = reinterpret_cast<int32_t*>(row + widest);
        for (int64_t i = begin; i < end; ++i) {
            const int64_t token = i % tokens, head = i / tokens % heads, batch = i / tokens / heads;
            const int64_t slot = positions.as<const int64_t>()[batch * positions.strides[0]] + token;
            call.store_key(batch, head, token, slot, row, integers);
            call.store_value(batch, head, token, slot, row, integers);
        }
    });
}

void kv_compact(const std::vector<Span>& stored, const Span& index, const Span& counts, int threads) {
    check_kv_compact(stored, index, counts);
    check_rows(index, counts, stored[0].shape[2]);
    const int64_t heads = stored[0].shape[1], batch = index.shape[0], parts = static_cast<int64_t>(stored.size());
    core::parallel_for(0, batch * heads * parts, 1, threads, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            const Span& part = stored[static_cast<size_t>(i % parts)];
            const int64_t b = i / parts / heads, head = i / parts % heads;
            const int64_t count = counts.as<const int64_t>()[b * counts.strides[0]];
            const int64_t bytes = (part.ndim == 4 ? part.shape[3] : 1) * core::itemsize(part.dtype);
            for (int64_t to = 0; to < count; ++to) {
                const int64_t from = index.as<const int64_t>()[b * index.strides[0] + to * index.strides[1]];
                // Rows move towards slot 0, past those that are done.
                if (from != to) {
                    std::memcpy(row_of(part, b, head, to), row_of(part, b, head, from), static_cast<size_t>(bytes));
                }
            }
        }
    });
}

}  // namespace sparsecore::formats
