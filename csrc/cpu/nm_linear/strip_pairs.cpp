// Expands the interleaved pairs layout into strips: a window of 32 columns is one span.
#include "cpu/common/avx512.h"
#include "cpu/nm_linear/interleaved.h"
#include "cpu/strip/interleaved.h"

namespace sparsecore::cpu {

void expand_pairs_avx512(StripReader& reader, int64_t column, void* out, int64_t) {
    const auto& w = *static_cast<const InterleavedWeight*>(reader.weight);
    const InterleavedShape& s = w.shape;
    const int64_t window = column / s.span, left = s.steps - window * s.span_steps;
    const int64_t steps = left < s.span_steps ? left : s.span_steps, first_slot = window * s.span_steps * s.width;
    const int64_t rows = block_lanes(s, reader.strip), step_elements = rows * s.width;
    const __mmask16 lanes = lanes16(rows);
    const auto* values = static_cast<const uint16_t*>(w.values) + value_index(s, reader.strip, first_slot, 0);
    const CodePlace place = code_place(s, reader.strip, first_slot, 0);
    const uint16_t* codes = w.codes + place.index;
    const __m512i mask = _mm512_set1_epi16(static_cast<short>((1 << s.bits) - 1));
    Slots<2> slots[16];
    int64_t shift = place.shift;
    for (int64_t i = 0; i < steps; ++i, shift += s.bits) {
        if (shift == s.word_codes * s.bits) {
            shift = 0;
            codes += step_elements;
        }
        const __m512i words = _mm512_maskz_loadu_epi32(lanes, codes);
        const __m512i word = _mm512_srl_epi16(words, _mm_cvtsi32_si128(static_cast<int>(shift)));
        const int64_t first = 2 * i / s.n * s.m, second = (2 * i + 1) / s.n * s.m;
        const __m512i base = _mm512_set1_epi32(static_cast<int>(first | second << 16));
        const __m512i columns = _mm512_add_epi16(_mm512_and_si512(word, mask), base);
        slots[i] = rotations<2>(_mm512_maskz_loadu_epi32(lanes, values + i * step_elements), columns);
    }
    spread_slots<2>(slots, steps, s.n, s.m, out);
}

}  // namespace sparsecore::cpu
