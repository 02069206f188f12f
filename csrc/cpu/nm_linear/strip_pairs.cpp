// Expands the interleaved pairs layout into strips: a window of 32 columns is one span.
#include "cpu/nm_linear/interleaved.h"
#include "cpu/strip/interleaved.h"

namespace sparsecore::cpu {

void expand_pairs_avx512(StripReader& reader, int64_t column, void* out, int64_t) {
    const auto& w = *static_cast<const InterleavedWeight*>(reader.weight);
    const InterleavedShape& s = w.shape;
    const int64_t window = column / s.span, left = s.steps - window * s.span_steps;
    const int64_t steps = left < s.span_steps ? left : s.span_steps;
    const auto* values = static_cast<const uint16_t*>(w.values) + value_index(s, reader.strip, window * s.span_slots, 0);
    const uint16_t* codes = w.codes + (reader.strip * s.spans + window) * s.span_words * s.reach;
    const __m512i mask = _mm512_set1_epi16(static_cast<short>((1 << s.bits) - 1));
    const __m128i bits = _mm_cvtsi32_si128(static_cast<int>(s.bits));
    Slots<2> slots[16];
    __m512i word = _mm512_setzero_si512();
    for (int64_t i = 0; i < steps; ++i) {
        word = i % s.word_codes == 0 ? _mm512_load_si512(codes + i / s.word_codes * s.reach) : _mm512_srl_epi16(word, bits);
        const int64_t first = 2 * i / s.n * s.m, second = (2 * i + 1) / s.n * s.m;
        const __m512i base = _mm512_set1_epi32(static_cast<int>(first | second << 16));
        const __m512i columns = _mm512_add_epi16(_mm512_and_si512(word, mask), base);
        slots[i] = rotations<2>(_mm512_load_si512(values + i * s.reach), columns);
    }
    spread_slots<2>(slots, steps, s.n, s.m, out);
}

}  // namespace sparsecore::cpu
