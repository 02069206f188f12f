// Expands the interleaved pairs layout into strips. A window of 32 columns is one span. In the vectors of a step, each
// 32-bit lane holds two slots of a row and their columns; so does, for two columns, each lane of a group of the strip. A
// slot lands in the one element whose column is its own, first or second, hence both orders of each pair are compared.
#include <immintrin.h>

#include "cpu/nm_linear/interleaved.h"

namespace sparsecore::cpu {

namespace {

constexpr int kMaxSteps = 16;  // kept pairs of a window

struct Slots {
    __m512i values, swapped;            // of each pair
    __m512i columns, swapped_columns;   // in the window
};

__m512i swap_pairs(__m512i pairs) { return _mm512_rol_epi32(pairs, 16); }

// The pairs of one window; returns their number.
int load_slots(const InterleavedWeight& w, int64_t strip, int64_t window, Slots* slots) {
    const InterleavedShape& s = w.shape;
    const int64_t left = s.steps - window * s.span_steps;
    const int steps = static_cast<int>(left < s.span_steps ? left : s.span_steps);
    const auto* values = static_cast<const uint16_t*>(w.values) + value_index(s, strip, window * s.span_slots, 0);
    const uint16_t* codes = w.codes + (strip * s.spans + window) * s.span_words * s.reach;
    const __m512i mask = _mm512_set1_epi16(static_cast<short>((1 << s.bits) - 1));
    const __m128i bits = _mm_cvtsi32_si128(static_cast<int>(s.bits));
    __m512i word = _mm512_setzero_si512();
    for (int i = 0; i < steps; ++i) {
        word = i % s.word_codes == 0 ? _mm512_load_si512(codes + i / s.word_codes * s.reach) : _mm512_srl_epi16(word, bits);
        const int64_t first = 2 * i / s.n * s.m, second = (2 * i + 1) / s.n * s.m;
        const __m512i base = _mm512_set1_epi32(static_cast<int>(first | second << 16));
        slots[i].values = _mm512_load_si512(values + i * s.reach);
        slots[i].columns = _mm512_add_epi16(_mm512_and_si512(word, mask), base);
        slots[i].swapped = swap_pairs(slots[i].values);
        slots[i].swapped_columns = swap_pairs(slots[i].columns);
    }
    return steps;
}

}  // namespace

void expand_pairs_avx512(StripReader& reader, int64_t column, void* out, int64_t) {
    const auto& w = *static_cast<const InterleavedWeight*>(reader.weight);
    Slots slots[kMaxSteps];
    const int steps = load_slots(w, reader.strip, column / 32, slots);
    __m512i wanted = _mm512_set1_epi32(1 << 16);  // columns 2 * group and the next
    for (int64_t group = 0; group < kWindowGroups; ++group) {
        const int64_t first_slot = 2 * group / w.shape.m * w.shape.n, last_slot = first_slot + w.shape.n - 1;
        const int64_t end = last_slot / 2 < steps ? last_slot / 2 + 1 : steps;
        __m512i dense = _mm512_setzero_si512();
        for (int64_t i = first_slot / 2; i < end; ++i) {
            const Slots& slot = slots[i];
            dense = _mm512_mask_mov_epi16(dense, _mm512_cmpeq_epi16_mask(slot.columns, wanted), slot.values);
            dense = _mm512_mask_mov_epi16(dense, _mm512_cmpeq_epi16_mask(slot.swapped_columns, wanted), slot.swapped);
        }
        _mm512_store_si512(static_cast<uint8_t*>(out) + group * 64, dense);
        wanted = _mm512_add_epi32(wanted, _mm512_set1_epi32(2 | 2 << 16));
    }
}

}  // namespace sparsecore::cpu
