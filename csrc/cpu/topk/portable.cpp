#include <algorithm>
#include <functional>

#include "cpu/topk/kernels.h"

namespace sparsecore::cpu {

namespace {

void make_keys(core::DType dtype, const void* x, int64_t n, int32_t* keys) {
    for (int64_t i = 0; i < n; ++i) keys[i] = key_of(core::load_float(x, i, dtype));
}

int32_t find_kth(const int32_t* keys, int64_t n, int64_t k, int32_t* scratch) {
    std::copy_n(keys, n, scratch);
    std::nth_element(scratch, scratch + k - 1, scratch + n, std::greater<int32_t>());
    return scratch[k - 1];
}

void emit_indices(const int32_t* keys, int64_t n, int64_t k, int32_t threshold, int64_t* indices) {
    int64_t equal = k - std::count_if(keys, keys + n, [=](int32_t key) { return key > threshold; });
    for (int64_t i = 0; i < n; ++i) {
        if (keys[i] > threshold || (keys[i] == threshold && equal-- > 0)) *indices++ = i;
    }
}

}  // namespace

TopkKernels topk_portable() { return {make_keys, find_kth, emit_indices}; }

}  // namespace sparsecore::cpu
