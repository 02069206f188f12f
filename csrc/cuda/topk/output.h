// Reading a row's sizes and writing its results.
#pragma once

#include "cuda/topk/args.h"
#include "cuda/topk/keys.h"

namespace sparsecore::cuda {

struct RowSizes {
    std::int64_t n, k;
};

// Values of counts and keep that make no sense are clamped, so that none leads outside of the row.
SC_DEVICE RowSizes row_sizes(const TopkArgs& a, std::int64_t row) {
    if (a.keep == nullptr) return {a.n, a.k};
    const std::int64_t count = a.counts[row * a.counts_stride], kept = a.keep[row * a.keep_stride];
    const std::int64_t n = count < 0 ? 0 : count < a.n ? count : a.n, most = n < a.k ? n : a.k;
    return {n, kept < 0 ? 0 : kept < most ? kept : most};
}

template <class T>
SC_DEVICE const T* row_start(const TopkArgs& a, std::int64_t row) {
    return static_cast<const T*>(a.x) + row * a.row_stride;
}

// Element `index` of the row is the at-th of those taken. Values are the elements' own bits.
template <class T>
SC_DEVICE void write_taken(const TopkArgs& a, std::int64_t row, std::int64_t at, std::int64_t index) {
    a.indices[row * a.k + at] = index;
    if (a.values != nullptr) static_cast<T*>(a.values)[row * a.k + at] = row_start<T>(a, row)[index];
}

// The columns behind the k taken ones; `thread` of `threads`.
SC_DEVICE void write_padding(const TopkArgs& a, std::int64_t row, std::int64_t k, int thread, int threads) {
    for (std::int64_t at = k + thread; at < a.k; at += threads) a.indices[row * a.k + at] = 0;
}

template <class T>
SC_DEVICE void write_threshold(const TopkArgs& a, std::int64_t row, typename Order<T>::Key key) {
    static_cast<T*>(a.threshold)[row] = Order<T>::element(key);
}

}  // namespace sparsecore::cuda
