// One thread's work on the rows of x: the current row, the k-th largest of it, and the elements from there on.
#pragma once

#include "core/buffer.h"
#include "core/span.h"
#include "cpu/topk/search.h"

namespace sparsecore::cpu {

// `count` elements of a float type, with strides.
void copy_elements(core::DType dtype, const void* in, int64_t in_stride, int64_t count, void* out, int64_t out_stride);

// A row of at most kKeptRow elements keeps its digits (2 MiB) for all passes of the search. A longer one is counted into
// histograms, a chunk at a time, so that scratch does not grow with the row.
class TopkRow {
public:
    static constexpr int64_t kKeptRow = int64_t{1} << 20;

    TopkRow(const core::Span& x, const TopkKernels& kernels);

    // Makes `row` the current one.
    void select(int64_t row);

    Kth kth(int64_t k);

    // Writes the k largest, the k-th being `kth`, in ascending order of their index.
    void write(const Kth& kth, int64_t k, void* values, int64_t value_stride, int64_t* indices, int64_t index_stride);

private:
    struct Chunk {
        const char* elements;  // neighbours in memory
        const int16_t* digits;
    };
    Chunk chunk(int64_t begin, int64_t count);
    Kth kth_by_histogram(int64_t k);
    int64_t after_tie(int32_t tied, int64_t number);
    int32_t key(int64_t i) const { return key_at(x_.dtype, row_, i * x_.strides[1]); }

    const core::Span& x_;
    const TopkKernels& kernels_;
    const int64_t n_, item_;
    const bool kept_;
    core::AlignedBuffer digits_, copy_, values_, positions_;
    SearchScratch scratch_;
    const char* row_ = nullptr;  // its first element
};

}  // namespace sparsecore::cpu
