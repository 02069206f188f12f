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

// Whether sections take no more than a layer may hold between calls: 1.15 times the stored form (unstructured: 1.25 times) and 4 KiB.
// Of the two forms of N:M positions the smaller one counts.
bool adds_little(const formats::Geometry& geometry, const formats::Sections& sections);

// Bytes of the resident. Weights without a layout here, or too small for what fills up its tiles, get the stored one, which the kernels do
// not read. ShapeError where a size is out of the kernels' range.
int64_t resident_size(const formats::Stored& stored);

// Stored form (validated in full here) -> resident in host memory, and back into the stored form's own tensors, with every
// position checked. resident_validate only checks.
void resident_make(const formats::Stored& stored, const core::Span& resident);
void resident_to_stored(const core::Span& resident, const formats::Stored& out);
void resident_validate(const core::Span& resident);

}  // namespace sparsecore::cuda
