// Attention that reads keys in two steps, after SpAtten's progressive quantisation (HPCA 2021, section III-D).
//
// Meaning, for one head, with bits = msb_bits + lsb_bits:
//  1. Every query and key token is quantised symmetrically: scale = max |x| / (2^(bits - 1) - 1) in fp32 (1 where that
//     is 0), integer = x / scale rounded half to even and kept within +-(2^(bits - 1) - 1). A token with an inf or NaN has scale NaN: all its scores
//     are NaN.
//  2. high(k) = (k >> lsb_bits << lsb_bits) + 2^(lsb_bits - 1), an arithmetic shift: the high bits, with the middle of the
//     missing range in place of the low bits; high(k) = k where lsb_bits is 0.
//  3. score(i, j) = fp32(sum over d of q * high(k), exact integers) * (q_scale[i] * scale) * k_scale[j]; softmax over the
//     keys that the mask lets the query attend to, in fp32.
//  4. A query whose largest probability is below `threshold` is computed once more with k in place of high(k).
//  5. out = P V, where a masked key has probability exactly 0 (and, as in dense attention, 0 * inf is NaN);
//     column_sums[j] = sum over the queries of P[i, j]. A query that may attend to nothing gives zeros and needs no
//     second pass.
#pragma once

#include "core/span.h"

namespace sparsecore::cpu {

struct AttentionBits {
    float scale;
    int msb_bits, lsb_bits;  // 2 <= msb, 0 <= lsb, msb + lsb <= 16
    float threshold;
};

// q [B, H, Lq, D], k [B, H, Lk, D], v [B, H, Lk, Dv] and out [B, H, Lq, Dv] in one of f32, f16, bf16; mask u8
// [B, 1, 1 or Lq, Lk] or null, non-zero = attend; column_sums f32 [B, H, Lk]; needs_lsb u8 [B, H, Lq]. Any strides.
// ShapeError, DtypeError, SpanError, AliasingError, InvalidValueError.
void bitplane_attention(const core::Span& q, const core::Span& k, const core::Span& v, const core::Span* mask,
                        const AttentionBits& bits, const core::Span& out, const core::Span& column_sums,
                        const core::Span& needs_lsb, int threads);

}  // namespace sparsecore::cpu
