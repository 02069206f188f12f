// Expands the quads layout into strips: a window of 64 columns is one span.
#include "cpu/int8_linear/tiles.h"
#include "cpu/strip/interleaved.h"

namespace sparsecore::cpu {

void expand_quads_avx512(StripReader& reader, int64_t column, void* out, int64_t) {
    const auto& w = *static_cast<const QuadWeight*>(reader.weight);
    const QuadShape& s = w.shape;
    const int64_t window = column / s.span, left = s.steps - window * s.span_steps;
    const int64_t steps = left < s.span_steps ? left : s.span_steps;
    const int8_t* values = w.values + (reader.strip * s.steps + window * s.span_steps) * kQuadBytes;
    const uint8_t* codes = w.codes + (reader.strip * s.spans + window) * s.span_words * kQuadBytes;
    const __m512i mask = _mm512_set1_epi8(static_cast<char>((1 << s.bits) - 1));
    const __m128i bits = _mm_cvtsi32_si128(static_cast<int>(s.bits));
    Slots<4> slots[kQuadReach / kQuadSlots];
    __m512i word = _mm512_setzero_si512();
    for (int64_t i = 0; i < steps; ++i) {
        word = i % s.word_steps == 0 ? _mm512_load_si512(codes + i / s.word_steps * kQuadBytes) : _mm512_srl_epi16(word, bits);
        uint32_t base = 0;
        for (int64_t slot = 0; slot < kQuadSlots; ++slot) {
            base |= static_cast<uint32_t>((i * kQuadSlots + slot) / s.n * s.m) << (8 * slot);
        }
        const __m512i columns = _mm512_add_epi8(_mm512_and_si512(word, mask), _mm512_set1_epi32(static_cast<int>(base)));
        slots[i] = rotations<4>(_mm512_load_si512(values + i * kQuadBytes), columns);
    }
    spread_slots<4>(slots, steps, s.n, s.m, out);
}

}  // namespace sparsecore::cpu
