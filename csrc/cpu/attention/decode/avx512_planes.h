// How the kernels of planes see a query, and what they do with their sums. Included by files compiled for AVX-512 only.
//
// A query of 15 bits is 128 a + b, a signed and b of 7 bits: both are bytes for vpdpbusd, and the sums of a, shifted, are
// where those of b start. The layout of a query: a and b as bytes [padded width] for planes of bytes; then for nibbles, of a
// and of b, the first and the second half of the dimensions, each padded to 64 bytes.
#pragma once

#include "cpu/attention/decode/avx512_sums.h"

namespace sparsecore::cpu {

static inline __mmask64 lanes64(int64_t count) {
    return count >= 64 ? ~uint64_t{0} : count <= 0 ? 0 : (uint64_t{1} << count) - 1;
}

struct PlaneLayout {
    int64_t padded, half;  // bytes
};

static inline PlaneLayout plane_layout(int64_t width) { return {decode_padded(width), decode_padded((width + 1) / 2)}; }
static inline const uint8_t* plane_bytes(const PlaneLayout& layout, const DecodeQuery& query, int part) {
    return query.layout + part * layout.padded;
}
static inline uint8_t* plane_nibbles(const PlaneLayout& layout, const DecodeQuery& query, int part, int which) {
    return query.layout + 2 * layout.padded + (2 * part + which) * layout.half;
}

// products of 16 rows = products * 2^bits + sums, the latter alone of the first plane.
static inline void store_plane_products(const DecodePlane& plane, __m512i sums, float* products) {
    __m512 sum = _mm512_cvtepi32_ps(sums);
    if (!plane.first) {
        sum = _mm512_fmadd_ps(_mm512_loadu_ps(products), _mm512_set1_ps(static_cast<float>(1 << plane.bits)), sum);
    }
    _mm512_storeu_ps(products, sum);
}

}  // namespace sparsecore::cpu
