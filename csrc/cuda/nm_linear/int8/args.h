// What a launch on an int8 or fp8 weight takes: the quantisation of x, and the product.
#pragma once

#include "core/dtype.h"
#include "cuda/nm_linear/two_four/args.h"

namespace sparsecore::cuda {

// Bytes of a row of quantised activations: its columns up to a multiple of 16, the rest zeros.
constexpr std::int64_t quantised_stride(std::int64_t cols) { return (cols + 15) / 16 * 16; }

// `call` with x and out of one float type, x still as it came. values and metadata: two_four/args.h, but a tile has 16 rows x 128
// columns and two words of metadata a lane (layout.h). Byte octets (byte_octets/layout.h) have their codes in place of metadata.
struct Int8Args {
    TwoFourArgs call;
    const float* scales;  // [rows], of the weight
    bool bias_is_float;   // fp32, whatever x is
    std::int8_t* q;       // [tokens, q_stride], of fp8 the bits
    float* x_scales;      // [tokens]
    std::int64_t q_stride;
    core::DType values;   // of the weight and q: I8 or F8
    const std::uint16_t* high_codes;  // of byte octets of 8 columns
    int n, m;
};

}  // namespace sparsecore::cuda
