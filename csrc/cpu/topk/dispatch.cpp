#include <string>

#include "core/buffer.h"
#include "core/checked.h"
#include "core/error.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "cpu/topk/kernels.h"
#include "cpu/topk/topk.h"

namespace sparsecore::cpu {

namespace {

using core::Span;

// Rows that together are worth a second thread.
int64_t row_grain(int64_t n) { return n > 0 ? 1 + 16384 / n : 16384; }

TopkKernels kernels() {
#if defined(SPARSECORE_HAVE_AVX512)
    if (static_cast<uint32_t>(core::runtime_isa()) >= static_cast<uint32_t>(core::Isa::Avx512)) return topk_avx512();
#endif
    return topk_portable();
}

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

// Scratch of one thread and the keys of its current row.
class RowKeys {
public:
    RowKeys(const Span& x, const TopkKernels& kernels) : x_(x), kernels_(kernels) {
        const int64_t bytes = core::checked_mul(core::checked_add(x.shape[1], 16, "row"), 4, "row");
        keys_.reserve(bytes);
        scratch_.reserve(bytes);
    }

    const int32_t* load(int64_t row) {
        auto* keys = keys_.as<int32_t>();
        const int64_t first = row * x_.strides[0];
        if (x_.strides[1] == 1) {
            const char* data = x_.as<const char>() + first * core::itemsize(x_.dtype);
            kernels_.keys(x_.dtype, data, x_.shape[1], keys);
        } else {
            for (int64_t i = 0; i < x_.shape[1]; ++i) {
                keys[i] = key_of(core::load_float(x_.data, first + i * x_.strides[1], x_.dtype));
            }
        }
        return keys;
    }

    int32_t kth(int64_t k) { return kernels_.kth(keys_.as<int32_t>(), x_.shape[1], k, scratch_.as<int32_t>()); }

private:
    const Span& x_;
    const TopkKernels& kernels_;
    core::AlignedBuffer keys_, scratch_;
};

template <class T>
void gather(const Span& x, const Span& values, int64_t row, const int64_t* indices) {
    const T* in = x.as<const T>() + row * x.strides[0];
    T* out = values.as<T>() + row * values.strides[0];
    for (int64_t i = 0; i < values.shape[1]; ++i) out[i * values.strides[1]] = in[indices[i] * x.strides[1]];
}

void select_rows(const Span& x, int64_t k, const Span& values, const Span& indices, const TopkKernels& kernels,
                 int64_t begin, int64_t end) {
    RowKeys keys(x, kernels);
    core::AlignedBuffer own(indices.strides[1] == 1 ? 0 : core::checked_mul(k, 8, "indices"));
    for (int64_t row = begin; row < end; ++row) {
        auto* out = indices.as<int64_t>() + row * indices.strides[0];
        auto* chosen = indices.strides[1] == 1 ? out : own.as<int64_t>();
        const int32_t* row_keys = keys.load(row);
        kernels.emit(row_keys, x.shape[1], k, keys.kth(k), chosen);
        if (chosen != out) {
            for (int64_t i = 0; i < k; ++i) out[i * indices.strides[1]] = chosen[i];
        }
        if (core::itemsize(x.dtype) == 4) {
            gather<uint32_t>(x, values, row, chosen);
        } else {
            gather<uint16_t>(x, values, row, chosen);
        }
    }
}

}  // namespace

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
    const TopkKernels table = kernels();
    core::parallel_for(0, x.shape[0], row_grain(x.shape[1]), threads, [&](int64_t begin, int64_t end) {
        select_rows(x, k, values, indices, table, begin, end);
    });
}

void topk_threshold(const Span& x, int64_t k, const Span& out, int threads) {
    check_input(x, k, 1, threads);
    core::require_shape(out, "out", {x.shape[0]});
    core::require_dtype(out, "out", x.dtype);
    core::require_disjoint(out, "out", x, "x");
    const TopkKernels table = kernels();
    core::parallel_for(0, x.shape[0], row_grain(x.shape[1]), threads, [&](int64_t begin, int64_t end) {
        RowKeys keys(x, table);
        for (int64_t row = begin; row < end; ++row) {
            keys.load(row);
            core::store_float(out.data, row * out.strides[0], x.dtype, value_of(keys.kth(k)));
        }
    });
}

}  // namespace sparsecore::cpu
