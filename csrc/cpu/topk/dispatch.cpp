#include <string>

#include "core/error.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "cpu/topk/row.h"
#include "cpu/topk/topk.h"

namespace sparsecore::cpu {

namespace {

using core::Span;

// Rows that together are worth a second thread.
int64_t row_grain(int64_t n) { return n > 0 ? 1 + 16384 / n : 16384; }

void check_input(const Span& x, int64_t k, int64_t least, int threads) {
    core::require_shape(x, "x", {-1, -1});
    core::require_float(x, "x");
    if (k < least || k > x.shape[1]) {
        throw core::Error("ShapeError", "k is " + std::to_string(k), "k",
                          std::to_string(least) + " to " + std::to_string(x.shape[1]) + ", the length of a row");
    }
    if (threads < 1) {
        throw core::Error("InvalidValueError", "threads is " + std::to_string(threads), "threads", "at least 1");
    }
}

// The value of a key: a zero is +0, NaN the quiet one.
void store_key(void* out, int64_t index, core::DType dtype, int32_t key) {
    const uint32_t sign = key < 0 ? 0x80000000u : 0u, magnitude = static_cast<uint32_t>(key < 0 ? -int64_t{key} : key);
    if (dtype == core::DType::F32) {
        static_cast<uint32_t*>(out)[index] = key == kNanKey ? 0x7fc00000u : sign | magnitude;
        return;
    }
    const uint32_t half = (sign | magnitude) >> 16;
    const uint32_t quiet = dtype == core::DType::F16 ? 0x7e00u : 0x7fc0u;
    static_cast<uint16_t*>(out)[index] = static_cast<uint16_t>(half == INT16_MAX ? quiet : half);
}

}  // namespace

TopkKernels topk_kernels() {
    [[maybe_unused]] const auto isa = static_cast<uint32_t>(core::runtime_isa());
#if defined(SPARSECORE_HAVE_AVX512)
    if (isa >= static_cast<uint32_t>(core::Isa::Avx512)) return topk_avx512();
#endif
#if defined(SPARSECORE_HAVE_AVX2)
    if (isa >= static_cast<uint32_t>(core::Isa::Avx2)) return topk_avx2();
#endif
    return topk_portable();
}

void topk_select(const Span& x, int64_t k, const Span& values, const Span& indices, int threads) {
    check_input(x, k, 0, threads);
    core::require_shape(values, "values", {x.shape[0], k});
    core::require_dtype(values, "values", x.dtype);
    core::require_shape(indices, "indices", {x.shape[0], k});
    core::require_dtype(indices, "indices", core::DType::I64);
    core::require_disjoint(values, "values", x, "x");
    core::require_disjoint(indices, "indices", x, "x");
    core::require_disjoint(values, "values", indices, "indices");
    if (k == 0) return;
    const TopkKernels table = topk_kernels();
    core::parallel_for(0, x.shape[0], row_grain(x.shape[1]), threads, [&](int64_t begin, int64_t end) {
        TopkRow current(x, k, table);
        for (int64_t row = begin; row < end; ++row) {
            current.select(row);
            current.write(current.kth(),
                          values.as<char>() + row * values.strides[0] * core::itemsize(values.dtype),
                          values.strides[1], indices.as<int64_t>() + row * indices.strides[0], indices.strides[1]);
        }
    });
}

void topk_threshold(const Span& x, int64_t k, const Span& out, int threads) {
    check_input(x, k, 1, threads);
    core::require_shape(out, "out", {x.shape[0]});
    core::require_dtype(out, "out", x.dtype);
    core::require_disjoint(out, "out", x, "x");
    const TopkKernels table = topk_kernels();
    core::parallel_for(0, x.shape[0], row_grain(x.shape[1]), threads, [&](int64_t begin, int64_t end) {
        TopkRow current(x, k, table);
        for (int64_t row = begin; row < end; ++row) {
            current.select(row);
            store_key(out.data, row * out.strides[0], x.dtype, current.kth().key);
        }
    });
}

}  // namespace sparsecore::cpu
