// Keys and values of an attention layer as they are stored while text is generated: [B, Hkv, slots, ...], one row a token.
//
// Dense: the elements. Else a row x becomes integers x / scale, half to even, scale = max |x| / (2^(bits - 1) - 1) in fp32
// (1 where that is 0; NaN, and integers 0, where x has an inf or NaN). Values are int8 with a width of 4 ... 8 bits. Keys
// have msb + 4 bits and lie in planes, the bits that are read first apart from those that few queries need:
//
//   a key of 8 + 4 bits   s b b b b b b b | b b b b        the sign and the bits of k, two's complement
//                         `- high plane -'  `- low -'
//   a key of 12 + 4 bits  s b b b b b b b | b b b b | b b b b
//                         `- high plane -'  `rest-'   `- low -'
//
//   msb    high plane              rest plane               low plane             bytes of D dimensions: high, low
//   4      nibbles, (k >> 4) + 8   -                        nibbles, k & 15       ceil(D / 2) + 4, ceil(D / 2)
//   6, 8   bytes, (k >> 4) + 128   -                        nibbles, k & 15       D + 4, ceil(D / 2)
//   10     bytes, (k >> 6) + 128   nibbles, k >> 4 & 3      nibbles, k & 15       D + ceil(D / 2) + 4, ceil(D / 2)
//   12     bytes, (k >> 8) + 128   nibbles, k >> 4 & 15     nibbles, k & 15       D + ceil(D / 2) + 4, ceil(D / 2)
//
// Nibbles share bytes: with H = ceil(D / 2), byte i has dimension i in its low half and i + H in its high half, so that a
// vector of bytes gives two vectors of neighbouring dimensions with one shift. The 4 of each sum are the scale, in a tensor
// of its own. 6 bits take the room of 8, and the 2 + 2 bits of the rest plane that 10 bits do not need are empty.
#pragma once

#include <cstdint>
#include <vector>

#include "core/span.h"

namespace sparsecore::formats {

constexpr int kLowBits = 4;

// One plane: an element counts as stored - offset, and 2^bits as much counts what the planes before it gave.
struct KeyPlane {
    int64_t bytes = 0;  // of a row
    bool nibbles = false;
    int offset = 0, bits = 0;
};

struct KeyPlanes {
    int count = 0;
    KeyPlane plane[3];
};

// InvalidValueError unless msb_bits is 4, 6, 8, 10 or 12.
KeyPlanes key_planes(int msb_bits, int64_t width);

// Writes tokens [B, Hkv, t, ...] (f32, f16 or bf16, any strides) to slots positions[b] + 0 ... t - 1 of sequence b.
// keys: {k} or planes and scale f32 [B, Hkv, slots]; values: {v} or {i8, scale}; contiguous rows. msb_bits, value_bits 0:
// dense. IndexTableError where a slot is outside of the store; ShapeError, DtypeError, SpanError, AliasingError,
// InvalidValueError.
void kv_append(const std::vector<core::Span>& keys, const std::vector<core::Span>& values, const core::Span& new_keys,
               const core::Span& new_values, const core::Span& positions, int msb_bits, int value_bits, int threads);

// Moves rows index[b, : counts[b]], ascending slots, of every tensor [B, Hkv, slots(, width)] to slots 0, 1, ...
void kv_compact(const std::vector<core::Span>& stored, const core::Span& index, const core::Span& counts, int threads);

// What both of them check before they read an index: for stores whose indices lie on a device. pages: null, or the store
// is paged, i32 [B, entries], and its tensors are [pages, Hkv, page size, ...].
void check_kv_append(const std::vector<core::Span>& keys, const std::vector<core::Span>& values, const core::Span& new_keys,
                     const core::Span& new_values, const core::Span& positions, const core::Span* pages, int msb_bits,
                     int value_bits);
void check_kv_compact(const std::vector<core::Span>& stored, const core::Span& index, const core::Span& counts);

}  // namespace sparsecore::formats
