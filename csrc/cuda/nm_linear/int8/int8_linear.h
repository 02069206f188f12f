// int8 and fp8 linear of 2:4, 1:4, 1:8 and 2:8 weights on a CUDA device: x is quantised by token into memory of the caller's, then multiplied.
#pragma once

#include "core/span.h"
#include "cuda/nm_linear/int8/args.h"
#include "cuda/nm_linear/two_four/two_four.h"

namespace sparsecore::cuda {

// Checks every size and type; nothing is read through the spans, whose pointers are device memory. x [tokens, cols] and out [tokens, rows]
// of one float type and any strides, bias [rows] of that type or fp32, or null, resident of cuda/resident.h in the layout that
// shape and pattern give, q of its values' type, int8 or fp8 [tokens, quantised_stride(cols)] and x_scales fp32 [tokens] without gaps;
// workspace as in nm_linear_call.
Int8Args int8_linear_call(const core::Span& x, const core::Span& resident, int64_t n, int64_t m, const core::Span* bias, const core::Span& out,
                          cpu::Activation activation, const core::Span& q, const core::Span& x_scales,
                          const core::Span* workspace = nullptr);

// Queues the kernels on a stream; `dtype` is that of x. Right for any number of tokens; fp8 2:4 weights without kernels for many (on other
// GPUs than 8.9, 9.0 and 12.x) and octets are read for every 16. Errors as nm_linear_launch.
void int8_linear_launch(const Int8Args& args, core::DType dtype, std::uint64_t stream);
void e4m3_linear_launch(const Int8Args& args, core::DType dtype, std::uint64_t stream);  // of these the fp8 ones

// Queue the product alone on sm_90a, and what it needs; E4M3: bytes of the weight and of q are fp8.
inline bool fits_sm90(const Int8Args& a) { return a.call.tokens <= kSm90MostTokens && a.call.column_tiles > 0; }
void int8_launch_sm90(const Int8Args& args, core::DType dtype, std::uint64_t stream);
void e4m3_launch_sm90(const Int8Args& args, core::DType dtype, std::uint64_t stream);

// Of these the product by the kernel for few tokens, and of byte octets, by the type of their values.
void int8_decode_launch(const Int8Args& args, core::DType dtype, std::uint64_t stream);
void int8_octets_launch(const Int8Args& args, core::DType dtype, std::uint64_t stream);
void e4m3_decode_launch(const Int8Args& args, core::DType dtype, std::uint64_t stream);
void e4m3_octets_launch(const Int8Args& args, core::DType dtype, std::uint64_t stream);

}  // namespace sparsecore::cuda
