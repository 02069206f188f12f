#include "core/buffer.h"
#include "core/checked.h"
#include "core/error.h"
#include "core/isa.h"
#include "cpu/bitmask_linear/kernels.h"
#include "cpu/common/linear_prepare.h"

namespace sparsecore::cpu {

namespace {

template <class Index>
void write_columns(const uint8_t* bitmask, int64_t rows, int64_t cols, Index* out) {
    const int64_t row_bytes = cols / 8 + (cols % 8 != 0);
    for (int64_t row = 0; row < rows; ++row, bitmask += row_bytes) {
        for (int64_t column = 0; column < cols; ++column) {
            if (bitmask[column >> 3] >> (column & 7) & 1) *out++ = static_cast<Index>(column);
        }
    }
}

template <class Index>
void write_bits(const Index* columns, const int64_t* row_offsets, int64_t rows, int64_t cols, uint8_t* bitmask) {
    const int64_t row_bytes = cols / 8 + (cols % 8 != 0);
    for (int64_t row = 0; row < rows; ++row, bitmask += row_bytes) {
        for (int64_t i = row_offsets[row]; i < row_offsets[row + 1]; ++i) {
            uint8_t& byte = bitmask[columns[i] >> 3];
            byte = static_cast<uint8_t>(byte | 1u << (columns[i] & 7));
        }
    }
}

float* floats(core::AlignedBuffer& buffer, int64_t cols, int64_t per_column) {
    return static_cast<float*>(buffer.reserve(core::checked_mul(cols * 4, per_column, "activations")));
}

void run_portable(const LinearCall& call, const BitmaskWeight& weight, const BitmaskPart& part) {
    thread_local core::AlignedBuffer activations, values, columns;
    const PortableScratch scratch{floats(activations, weight.cols, kBitmaskSuperTile), floats(values, weight.cols, 1),
                                  static_cast<int64_t*>(columns.reserve(weight.cols * 8))};
    bitmask_linear_portable(call, weight, part, scratch);
}

#if defined(SPARSECORE_HAVE_AVX512)
void run_indexed(const LinearCall& call, const BitmaskWeight& weight, const BitmaskPart& part) {
    thread_local core::AlignedBuffer activations, values, sums;
    const IndexedScratch scratch{floats(activations, weight.cols, kIndexedTokens), floats(values, weight.cols, 1),
                                 floats(sums, kIndexedRows, kIndexedTokens)};
    bitmask_linear_avx512(call, weight, part, scratch);
}

void run_few(const LinearCall& call, const BitmaskWeight& weight, int64_t row_begin, int64_t row_end) {
    thread_local core::AlignedBuffer activations;
    const int64_t cols = core::round_up(weight.cols, 64, "activations");
    bitmask_linear_few_avx512(call, weight, row_begin, row_end, floats(activations, cols, kFewTokens));
}
#endif

}  // namespace

void bitmask_to_columns(const uint8_t* bitmask, int64_t rows, int64_t cols, void* columns) {
    if (narrow_columns(cols)) {
        write_columns(bitmask, rows, cols, static_cast<uint16_t*>(columns));
    } else {
        write_columns(bitmask, rows, cols, static_cast<uint32_t*>(columns));
    }
}

void columns_to_bitmask(const void* columns, const int64_t* row_offsets, int64_t rows, int64_t cols, uint8_t* bitmask) {
    if (narrow_columns(cols)) {
        write_bits(static_cast<const uint16_t*>(columns), row_offsets, rows, cols, bitmask);
    } else {
        write_bits(static_cast<const uint32_t*>(columns), row_offsets, rows, cols, bitmask);
    }
}

void bitmask_linear_stored(const LinearCall& call, const BitmaskWeight& weight) {
    const int64_t work = call.tokens * (weight.nnz + call.rows);
    for_linear_parts(call, kBitmaskSuperTile, weight.rows, work, [&](int64_t t0, int64_t t1, int64_t r0, int64_t r1) {
        run_portable(call, weight, {t0, t1, r0, r1});
    });
}

void bitmask_linear_indexed([[maybe_unused]] const LinearCall& call, [[maybe_unused]] const BitmaskWeight& weight) {
#if defined(SPARSECORE_HAVE_AVX512)
    if (core::isa_available(core::Isa::Avx512)) {
        const int64_t work = call.tokens * (weight.nnz + call.rows);
        const bool few = weight.bitmask != nullptr && call.tokens <= kFewTokens;
        const int64_t groups = weight.rows / kIndexedRows + (weight.rows % kIndexedRows != 0);
        for_linear_parts(call, kIndexedTokens, groups, work, [&](int64_t t0, int64_t t1, int64_t g0, int64_t g1) {
            const int64_t begin = g0 * kIndexedRows, last = g1 * kIndexedRows;
            const int64_t end = last < weight.rows ? last : weight.rows;
            if (few) {
                run_few(call, weight, begin, end);
            } else {
                run_indexed(call, weight, {t0, t1, begin, end});
            }
        });
        return;
    }
#endif
    throw core::Error("IsaError", "an unstructured weight laid out for avx512", "resident", "a machine with avx512",
                      "convert it to its stored form and back");
}

}  // namespace sparsecore::cpu
