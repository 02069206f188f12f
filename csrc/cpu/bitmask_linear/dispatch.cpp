#include "core/error.h"
#include "core/isa.h"
#include "cpu/bitmask_linear/kernels.h"

namespace sparsecore::cpu {

namespace {

[[maybe_unused]] void require_isa(core::Isa isa) {
    if (core::isa_available(isa)) return;
    throw core::Error("IsaError", std::string("an unstructured weight laid out for ") + core::isa_name(isa), "resident",
                      std::string("a machine with ") + core::isa_name(isa), "convert it to its stored form and back");
}

}  // namespace

void bitmask_to_lists(const uint8_t* bitmask, int64_t rows, int64_t cols, uint8_t* columns, uint8_t* counts) {
    const int64_t row_bytes = cols / 8 + (cols % 8 != 0), chunks = chunk_count(cols);
    for (int64_t row = 0; row < rows; ++row, bitmask += row_bytes, counts += chunks) {
        for (int64_t column = 0; column < cols; ++column) {
            if ((bitmask[column >> 3] >> (column & 7) & 1) == 0) continue;
            *columns++ = static_cast<uint8_t>(column % kChunk);
            ++counts[column / kChunk];
        }
    }
}

void lists_to_bitmask(const uint8_t* columns, const uint8_t* counts, int64_t rows, int64_t cols, uint8_t* bitmask) {
    const int64_t row_bytes = cols / 8 + (cols % 8 != 0), chunks = chunk_count(cols);
    for (int64_t row = 0; row < rows; ++row, bitmask += row_bytes) {
        for (int64_t chunk = 0; chunk < chunks; ++chunk) {
            for (int64_t left = *counts++; left > 0; --left) {
                const int64_t column = chunk * kChunk + *columns++;
                bitmask[column >> 3] = static_cast<uint8_t>(bitmask[column >> 3] | 1u << (column & 7));
            }
        }
    }
}

#if defined(SPARSECORE_HAVE_AVX2)
void bitmask_linear_avx2(const LinearCall& call, const BitmaskWeight& weight) {
    static constexpr BitmaskKernels kernels = {8,
                                               bitmask_decode_avx2,
                                               bitmask_to_chunks_avx2,
                                               bitmask_flatten_avx2,
                                               bitmask_pack_avx2,
                                               bitmask_flat_rows_avx2,
                                               bitmask_chunk_rows_avx2,
                                               bitmask_store_avx2,
                                               0,
                                               nullptr,
                                               nullptr};
    require_isa(core::Isa::Avx2);
    bitmask_linear(call, weight, kernels);
}
#endif

#if defined(SPARSECORE_HAVE_AVX512)
void bitmask_linear_avx512(const LinearCall& call, const BitmaskWeight& weight) {
    BitmaskKernels kernels = {16,
                              bitmask_decode_avx512,
                              bitmask_to_chunks_avx512,
                              bitmask_flatten_avx512,
                              bitmask_pack_avx512,
                              bitmask_flat_rows_avx512,
                              bitmask_chunk_rows_avx512,
                              bitmask_store_avx512,
                              4,
                              bitmask_pack_few_avx512,
                              bitmask_few_rows_avx512};
    require_isa(core::Isa::Avx512);
#if defined(SPARSECORE_HAVE_AVX512BF16)
    static const bool has_bf16 = core::cpu_has("avx512bf16");
    if (has_bf16 && weight.dtype == core::DType::BF16) {
        kernels.few_rows = bitmask_few_rows_avx512_bf16;
        // A token costs the same whatever the density, a vector of tokens as much as there are values.
        if (often_more_than(24, weight)) kernels.few_tokens = 8;
    }
#endif
    bitmask_linear(call, weight, kernels);
}
#endif

}  // namespace sparsecore::cpu
