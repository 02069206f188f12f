// What a product with an expanded weight owes to its pruned positions.
//
// out[i, j] was computed as the sum over k of a[i, k] * weight[j, k], pruned positions taking part as zeros. Where a has no
// infinity and no NaN that is the right sum. Any product 0 * inf makes the sum NaN; so every result that is not finite is computed again over
// the kept positions alone, and all others are left as they are. Floor: the bytes of out, read once.
#pragma once

#include "cuda/common/element.h"
#include "cuda/expand/word.h"

namespace sparsecore::cuda {

struct RepairArgs {
    const void* a;
    const void* weight;  // with its pruned positions marked
    void* out;           // [rows, columns], dense
    std::int64_t a_row_stride, a_stride;            // of k
    std::int64_t weight_column_stride, weight_stride;  // of j and k
    std::int64_t rows, columns, terms;
    const void* bias;  // [columns] or null
};

namespace expand {

constexpr int kRepairThreads = 256;

SC_DEVICE std::uint32_t bits_of(F32 element) { return float_bits(element.value); }
SC_DEVICE std::uint32_t bits_of(F16 element) { return element.bits; }
SC_DEVICE std::uint32_t bits_of(BF16 element) { return element.bits; }

template <class T>
SC_GLOBAL void SC_BOUNDS(kRepairThreads, 2) repair_products(RepairArgs args) {
    const std::int64_t step = static_cast<std::int64_t>(grid_dim_x()) * kRepairThreads;
    for (std::int64_t i = static_cast<std::int64_t>(block_x()) * kRepairThreads + thread_x(); i < args.rows * args.columns; i += step) {
        T* out = static_cast<T*>(args.out) + i;
        if ((float_bits(to_float(*out)) & 0x7f800000u) != 0x7f800000u) continue;
        const T* a = static_cast<const T*>(args.a) + i / args.columns * args.a_row_stride;
        const T* weight = static_cast<const T*>(args.weight) + i % args.columns * args.weight_column_stride;
        constexpr std::uint32_t kMark = 1u << (sizeof(T) * 8 - 1);
        float sum = args.bias != nullptr ? to_float(static_cast<const T*>(args.bias)[i % args.columns]) : 0.0f;
        for (std::int64_t k = 0; k < args.terms; ++k) {
            const T w = weight[k * args.weight_stride];
            if (bits_of(w) != kMark) sum += to_float(a[k * args.a_stride]) * to_float(w);
        }
        store(out, sum);
    }
}

}  // namespace expand

}  // namespace sparsecore::cuda
