#include "cpu/nm_linear/interleave.h"

#include <algorithm>
#include <vector>

#include "formats/nm.h"

namespace sparsecore::cpu {

namespace {

// in [lanes, steps] -> out [steps, lanes]. A tile of steps stays in the first-level cache while the lanes pass.
template <class Unit>
void transpose(const Unit* in, int64_t lanes, int64_t steps, Unit* out) {
    constexpr int64_t kTile = 256 / static_cast<int64_t>(sizeof(Unit));
    for (int64_t first = 0; first < steps; first += kTile) {
        const int64_t count = std::min(kTile, steps - first);
        for (int64_t lane = 0; lane < lanes; ++lane) {
            const Unit* source = in + lane * steps + first;
            Unit* target = out + first * lanes + lane;
            for (int64_t i = 0; i < count; ++i) target[i * lanes] = source[i];
        }
    }
}

// The code words of one row: a word holds `word_codes` steps, and there is one for each of the `width` slots of a step.
template <int kWidth>
void pack_codes(const InterleavedShape& s, const uint8_t* codes, uint16_t* words) {
    for (int64_t word = 0; word < s.words; ++word, words += kWidth) {
        const int64_t count = std::min(s.word_codes, s.steps - word * s.word_codes);
        unsigned packed[kWidth] = {};
        for (int64_t i = 0, shift = 0; i < count; ++i, shift += s.bits, codes += kWidth) {
            for (int w = 0; w < kWidth; ++w) packed[w] |= static_cast<unsigned>(codes[w]) << shift;
        }
        for (int w = 0; w < kWidth; ++w) words[w] = static_cast<uint16_t>(packed[w]);
    }
}

// Unit: the `width` slots of a step of one row.
template <class Unit>
void interleave_values(const formats::Stored& weight, const InterleavedShape& s, void* values) {
    const auto* in = weight.values.as<const Unit>();
    auto* out = static_cast<Unit*>(values);
    for (int64_t block = 0; block < s.row_blocks; ++block) {
        const int64_t first = block * kLanes * s.steps;
        transpose(in + first, block_lanes(s, block), s.steps, out + first);
    }
}

// Unit: the code words of one row for the `width` slots of a step.
template <class Unit>
void interleave_codes(const formats::Stored& weight, const InterleavedShape& s, void* codes) {
    formats::NmCodeReader reader(weight.positions, weight.geometry.codes, s.cols, s.n, s.m);
    std::vector<uint8_t> row_codes(static_cast<size_t>(s.kept + 8));
    std::vector<Unit> words(static_cast<size_t>(kLanes * s.words));
    auto* out = static_cast<Unit*>(codes);
    for (int64_t block = 0; block < s.row_blocks; ++block) {
        const int64_t lanes = block_lanes(s, block);
        for (int64_t lane = 0; lane < lanes; ++lane) {
            reader.read(block * kLanes + lane, row_codes.data());
            pack_codes<sizeof(Unit) / 2>(s, row_codes.data(), reinterpret_cast<uint16_t*>(words.data() + lane * s.words));
        }
        transpose(words.data(), lanes, s.words, out + block * kLanes * s.words);
    }
}

}  // namespace

void interleave(const formats::Stored& weight, const InterleavedShape& s, void* values, uint16_t* codes) {
    if (core::itemsize(weight.geometry.dtype) * s.width == 4) {
        interleave_values<uint32_t>(weight, s, values);
    } else {
        interleave_values<uint16_t>(weight, s, values);
    }
    if (s.width == 2) {
        interleave_codes<uint32_t>(weight, s, codes);
    } else {
        interleave_codes<uint16_t>(weight, s, codes);
    }
}

}  // namespace sparsecore::cpu
