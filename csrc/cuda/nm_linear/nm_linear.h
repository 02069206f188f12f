// N:M linear on a CUDA device: the resident layout, and the launch.
//
// Layout of a resident (little endian, made on the host, then copied to the device as it is):
//   0    header, 128 bytes: core/resident.h, isa "cuda"
//   128  values  [rows, padded] of the element type, padded = ceil(kept_per_row / 8) * 8; the padding is zero
//   ...  codes   [rows, padded] positions within the group, 1, 2, 4 or 8 bits each (the least of these that holds m - 1),
//        little bit order; starts at a multiple of 64 bytes, as does the end of the buffer
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/span.h"
#include "cuda/nm_linear/kernel_args.h"

namespace sparsecore::cuda {

struct NmGeometry {
    core::DType dtype;
    int64_t rows, cols;
    int n, m;
    int64_t kept, chunks;  // kept values of a row; chunks of 8 that hold them
    int code_bits;
    int64_t values_offset, codes_offset, total_bytes;
};

// Throws PatternError unless 1 <= n < m <= 32, ShapeError for sizes out of range, DtypeError for a non-float type.
NmGeometry nm_geometry(core::DType dtype, int64_t rows, int64_t cols, int64_t n, int64_t m);

// From the stored form (csrc/formats/nm.h: compressed and bitmask, both checked in full here) to a resident in host memory.
void nm_resident_make(const core::Span& compressed, const core::Span& bitmask, int64_t cols, int64_t n, int64_t m,
                      const core::Span& resident);

// The reverse: fills compressed and bitmask from a resident in host memory.
void nm_resident_to_stored(const core::Span& resident, int64_t n, int64_t m, const core::Span& compressed,
                           const core::Span& bitmask);

// Checks every size and type of a call; the result is what the kernel takes. The spans hold device pointers, of which
// nothing is read here. x [tokens, cols], out [tokens, rows], bias [rows] or null, all of the weight's element type.
NmLinearArgs nm_linear_args(const core::Span& x, const core::Span& resident, int64_t n, int64_t m,
                            const core::Span* bias, const core::Span& out, Activation activation);

// Queues the kernel on a CUDA stream (0: the default one) and returns at once. Throws UnsupportedError where there is
// no device or the build has no CUDA.
void nm_linear_launch(const NmLinearArgs& args, core::DType dtype, uint64_t stream);

}  // namespace sparsecore::cuda
