// From interleaved N:M layouts (nm_linear/interleaved.h, int8_linear/quads.h) to strips. In both a vector of 64 bytes holds
// kWidth neighbouring elements for each of 16 rows: kept values ("slots") there, columns here. A slot lands in the one
// element whose column is its own, so each rotation of a row's slots is compared with the columns of a group.
// Included by AVX-512 files only; everything is static.
#pragma once

#include <immintrin.h>

#include "cpu/strip/strip.h"

namespace sparsecore::cpu {

// kWidth slots of 16 rows: their values and their columns within the window, in every rotation.
template <int kWidth>
struct Slots {
    __m512i values[kWidth], columns[kWidth];
};

template <int kWidth>
static inline Slots<kWidth> rotations(__m512i values, __m512i columns) {
    constexpr int kBits = 32 / kWidth;
    Slots<kWidth> slots;
    slots.values[0] = values;
    slots.columns[0] = columns;
#pragma GCC unroll 4
    for (int i = 1; i < kWidth; ++i) {
        slots.values[i] = _mm512_rol_epi32(slots.values[i - 1], kBits);
        slots.columns[i] = _mm512_rol_epi32(slots.columns[i - 1], kBits);
    }
    return slots;
}

template <int kWidth>
static inline __m512i merge(__m512i group, const Slots<kWidth>& slots, __m512i wanted) {
#pragma GCC unroll 4
    for (int i = 0; i < kWidth; ++i) {
        if constexpr (kWidth == 2) {
            group = _mm512_mask_mov_epi16(group, _mm512_cmpeq_epi16_mask(slots.columns[i], wanted), slots.values[i]);
        } else {
            group = _mm512_mask_mov_epi8(group, _mm512_cmpeq_epi8_mask(slots.columns[i], wanted), slots.values[i]);
        }
    }
    return group;
}

// The window of which `steps` vectors of slots are kept, n of every m columns, in ascending order.
template <int kWidth>
static inline void spread_slots(const Slots<kWidth>* slots, int64_t steps, int64_t n, int64_t m, void* out) {
    constexpr int64_t kStep = kWidth == 2 ? 0x00020002 : 0x04040404;
    __m512i wanted = _mm512_set1_epi32(kWidth == 2 ? 0x00010000 : 0x03020100);  // columns of the group
    for (int64_t group = 0; group < kWindowGroups; ++group) {
        const int64_t first_slot = group * kWidth / m * n, end_slot = ((group + 1) * kWidth - 1) / m * n + n;
        const int64_t end = (end_slot + kWidth - 1) / kWidth, last = end < steps ? end : steps;
        __m512i dense = _mm512_setzero_si512();
        for (int64_t i = first_slot / kWidth; i < last; ++i) dense = merge<kWidth>(dense, slots[i], wanted);
        _mm512_store_si512(static_cast<uint8_t*>(out) + group * 64, dense);
        wanted = _mm512_add_epi32(wanted, _mm512_set1_epi32(kStep));
    }
}

}  // namespace sparsecore::cpu
