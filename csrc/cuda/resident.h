// Weights of every kind in the layouts of the CUDA kernels: made on the host, then copied to the device as they are.
#pragma once

#include "core/span.h"
#include "cuda/layouts.h"
#include "formats/resident.h"
#include "formats/stored.h"

namespace sparsecore::cuda {

inline bool is_cuda_layout(const formats::Resident& resident) { return resident.layout >= kCudaLayout; }

// The sections of a weight that is not N:M, which follow from its geometry alone. Errors as resident_size.
formats::Sections resident_sections(const formats::Geometry& geometry);

// Bytes of the resident. UnsupportedError for weights that have no layout here, ShapeError where a size is out of the kernels' range.
int64_t resident_size(const formats::Stored& stored);

// Stored form (validated in full here) -> resident in host memory, and back into the stored form's own tensors, with every
// position checked. resident_validate only checks.
void resident_make(const formats::Stored& stored, const core::Span& resident);
void resident_to_stored(const core::Span& resident, const formats::Stored& out);
void resident_validate(const core::Span& resident);

}  // namespace sparsecore::cuda
