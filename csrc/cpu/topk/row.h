// One thread's work on the rows of x: the current row, the k-th largest of it, and the elements from there on.
#pragma once

#include "core/buffer.h"
#include "core/span.h"
#include "cpu/topk/search.h"

namespace sparsecore::cpu {

// `count` elements of a float type, with strides.
void copy_elements(core::DType dtype, const void* in, int64_t in_stride, int64_t count, void* out, int64_t out_stride);

// Where few elements are wanted of a long row, one pass keeps the candidates: those from a bound on that a sample gives.
// Else a row of at most kKeptRow elements keeps its digits (2 MiB) for all passes of the search, and a longer one is
// counted into histograms, a chunk at a time, so that scratch does not grow with the row.
class TopkRow {
public:
    static constexpr int64_t kKeptRow = int64_t{1} << 20;

    // Of every row of x the k largest are wanted.
    TopkRow(const core::Span& x, int64_t k, const TopkKernels& kernels);

    // Makes `row` the current one.
    void select(int64_t row);

    // Its k-th largest.
    Kth kth();

    // Writes the k largest, the k-th being `kth`, in ascending order of their index.
    void write(const Kth& kth, void* values, int64_t value_stride, int64_t* indices, int64_t index_stride);

private:
    // What is searched: the row or its candidates.
    struct Elements {
        const char* data = nullptr;
        int64_t n = 0, stride = 1;
        const int64_t* indices = nullptr;  // where they are in the row; null: the row itself
        bool kept = false;                 // neighbours in memory, and digits_ has the digits of all of them
    };
    struct Chunk {
        const char* elements;  // neighbours in memory
        const int16_t* digits;
    };

    bool find_candidates();
    void keep(const char* data, int64_t n, const int64_t* indices);
    Chunk chunk(int64_t begin, int64_t count);
    int64_t collect(int64_t begin, int64_t count, int32_t least);
    Kth kth_by_histogram();
    int64_t after_tie(int32_t tied, int64_t number);
    int32_t key(int64_t i) const { return key_at(x_.dtype, elements_.data, i * elements_.stride); }

    const core::Span& x_;
    const TopkKernels& kernels_;
    const int64_t k_, item_;
    Elements elements_;
    core::AlignedBuffer digits_, copy_, values_, positions_, candidates_, candidate_indices_;
    SearchScratch scratch_;
};

}  // namespace sparsecore::cpu
