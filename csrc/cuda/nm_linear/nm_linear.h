// N:M linear on a CUDA device: the resident layout, and the launch.
//
// A resident is a buffer of csrc/formats/resident.h with two sections, made on the host and then copied to the device as it
// is. Weights of 16 bits have the layout kCudaTwoFourLayout (2:4; two_four/layout.h) or kCudaOctetLayout (1:4, 1:8, 2:8;
// octets/layout.h); V:N:M weights, which their positions tell, kCudaGathered*Layout (gathered/layout.h); int8 and
// fp8 weights kCudaInt8Layout (2:4; int8/layout.h) or kCudaByteOctetLayout (1:4, 1:8, 2:8; byte_octets/layout.h), multiplied by
// int8/int8_linear.h; other float weights, and those that would not fill their tiles, kCudaLayout:
//   values  [rows, padded] of the element type, padded = ceil(kept_per_row / 8) * 8; the padding is zero
//   codes   [rows, padded] positions within the group, code_bits = 1, 2, 4 or 8 (the least that holds m - 1) each,
//           little bit order
// Where the sections lie follows from the shape and the layout, so a call needs no byte of the device's copy.
#pragma once

#include <cstdint>
#include <variant>

#include "core/dtype.h"
#include "core/span.h"
#include "cuda/layouts.h"
#include "cuda/nm_linear/gathered/args.h"
#include "cuda/nm_linear/kernel_args.h"
#include "cuda/nm_linear/octets/args.h"
#include "cuda/nm_linear/two_four/args.h"
#include "formats/resident.h"
#include "formats/stored.h"

namespace sparsecore::cuda {

// The arguments of the kernel that the weight's layout is for.
using NmLinearCall = std::variant<NmLinearArgs, TwoFourArgs, OctetArgs, GatheredArgs>;

// The layout for a weight of valid positions; formats::kStoredLayout where none is for it (cuda/resident.h).
uint32_t nm_layout(const formats::Stored& stored);

struct NmSections {
    uint32_t layout;
    formats::Sections sections;
    int64_t tile_columns;  // of layouts in tiles
};

// Sections and bytes of the resident; kCudaLayout stands for the layout that shape and type give. PatternError unless 1 <= n < m <= 32,
// ShapeError where a size is out of the kernel's range.
NmSections nm_sections(core::DType dtype, int64_t rows, int64_t cols, int64_t n, int64_t m, uint32_t layout = kCudaLayout);
int64_t nm_resident_size(core::DType dtype, int64_t rows, int64_t cols, int64_t n, int64_t m, uint32_t layout = kCudaLayout);

// Stored form (validated in full here) -> resident in host memory, and back into the stored form's own tensors.
void nm_resident_make(const formats::Stored& stored, const core::Span& resident);
void nm_resident_to_stored(const core::Span& resident, const formats::Stored& out);

// Checks every size and type of a call; nothing is read through the spans, whose pointers are device memory.
// x [tokens, cols], out [tokens, rows] of any strides, bias [rows] or null, all of one element type; workspace fp32
// [splits, tokens, rows], of a gathered weight also [cols, transposed tokens] of x's type, or null. SpanError where the resident's length
// does not fit the shape.
NmLinearCall nm_linear_call(const core::Span& x, const core::Span& resident, int64_t n, int64_t m,
                            const core::Span* bias, const core::Span& out, cpu::Activation activation,
                            const core::Span* workspace = nullptr, uint32_t layout = kCudaLayout);

// How many blocks should divide the columns of a call: the first size of its workspace; 1: it needs none. On a GPU of so many SMs,
// or on the current one.
int nm_linear_splits(core::DType dtype, int64_t tokens, int64_t rows, int64_t cols, int64_t n, int64_t m, uint32_t layout,
                     int multiprocessors);
int nm_linear_splits(core::DType dtype, int64_t tokens, int64_t rows, int64_t cols, int64_t n, int64_t m, uint32_t layout);

// How many tokens of x a call should have memory for to hold them transposed, the second size of its workspace; 0: it needs none. On a GPU
// of this capability (times ten) and so many SMs, or on the current one.
int64_t nm_transposed_tokens(int64_t tokens, int64_t rows, int64_t cols, uint32_t layout, int capability, int multiprocessors);
int64_t nm_transposed_tokens(int64_t tokens, int64_t rows, int64_t cols, uint32_t layout);

// Queues the kernel on a CUDA stream (0: the default one) and returns at once. What throw_status has, with CUDA's own
// words, for a machine without a device or a launch that fails (runtime/status.h).
void nm_linear_launch(const NmLinearCall& call, core::DType dtype, uint64_t stream);

}  // namespace sparsecore::cuda
