#include "core/buffer.h"
#include "core/checked.h"
#include "core/error.h"
#include "core/isa.h"
#include "cpu/block_linear/kernels.h"
#include "cpu/common/linear_prepare.h"

namespace sparsecore::cpu {

namespace {

template <class T>
void transpose_blocks(int64_t count, int64_t r, int64_t c, const T* in, T* out) {
    for (int64_t b = 0; b < count; ++b, in += r * c, out += r * c) {
        for (int64_t i = 0; i < r; ++i) {
            for (int64_t k = 0; k < c; ++k) out[k * r + i] = in[i * c + k];
        }
    }
}

void run_part(const LinearCall& call, const BlockWeight& weight, const BlockPart& part) {
    thread_local core::AlignedBuffer scratch;
    const int64_t tokens = weight.column_major ? block_super_tile(weight.cols) : kPortableTile;
    auto* floats = static_cast<float*>(scratch.reserve(core::checked_mul(weight.cols * 4, tokens, "activations")));
#if defined(SPARSECORE_HAVE_AVX512)
    if (weight.column_major) {
        block_linear_avx512(call, weight, part, floats);
        return;
    }
#endif
    block_linear_portable(call, weight, part, floats);
}

}  // namespace

void block_transpose(core::DType dtype, int64_t count, int64_t r, int64_t c, const void* in, void* out) {
    if (dtype == core::DType::F32) {
        transpose_blocks(count, r, c, static_cast<const uint32_t*>(in), static_cast<uint32_t*>(out));
    } else {
        transpose_blocks(count, r, c, static_cast<const uint16_t*>(in), static_cast<uint16_t*>(out));
    }
}

void block_linear(const LinearCall& call, const BlockWeight& weight) {
    if (weight.column_major && !core::isa_available(core::Isa::Avx512)) {
        throw core::Error("IsaError", "a block weight laid out for avx512", "resident", "a machine with avx512",
                          "convert it to its stored form and back");
    }
    if (call.tokens == 0 || call.rows == 0) return;
    const int64_t blocks = weight.row_offsets[block_row_count(weight)];
    const int64_t work = call.tokens * (blocks * weight.block_rows * weight.block_cols + call.rows);
    const int64_t tile = weight.column_major ? block_super_tile(weight.cols) : kPortableTile;
    for_linear_parts(call, tile, block_row_count(weight), work,
                     [&](int64_t t0, int64_t t1, int64_t r0, int64_t r1) { run_part(call, weight, {t0, t1, r0, r1}); });
}

}  // namespace sparsecore::cpu
