// What surrounds the inner loop of every linear kernel: the checks of a call, and its split over threads.
#pragma once

#include <string>

#include "core/buffer.h"
#include "core/parallel.h"
#include "core/span.h"
#include "cpu/common/linear_call.h"

namespace sparsecore::cpu {

// The names of torch: "none", "relu", "gelu" (erf), "gelu_tanh", "silu"; anything else is UnknownNameError.
Activation parse_activation(const std::string& name);

// Checks x [tokens, cols], bias [rows] or null and out [tokens, rows] against a weight [rows, cols] of `dtype` (with a
// quantised weight they have any float type, and the bias may be fp32 beside another x):
// DtypeError, ShapeError, SpanError, AliasingError, UnknownNameError, InvalidValueError. `bias_storage` receives the
// fp32 bias and must live as long as the call.
LinearCall check_linear(const core::Span& x, const core::Span* bias, const core::Span& out, core::DType dtype,
                        int64_t rows, int64_t cols, const std::string& activation, int threads,
                        core::AlignedBuffer& bias_storage);

// Runs body(first token, last token, first row block, last row block) on parts of the work: by tokens where there are
// enough tiles for all threads, else by row blocks. Every output is computed by one thread in an order that does not
// depend on the split. `work` is the number of multiply-adds; little work stays on one thread.
template <class Body>
void for_linear_parts(const LinearCall& call, int64_t token_tile, int64_t row_blocks, int64_t work, Body&& body) {
    constexpr int64_t kWorkPerThread = 1 << 16;
    const int64_t useful = work / kWorkPerThread + 1;
    const int threads = useful < call.threads ? static_cast<int>(useful) : call.threads;
    const int64_t tiles = call.tokens / token_tile + (call.tokens % token_tile != 0);
    if (tiles >= 2 * threads || row_blocks < threads) {
        core::parallel_for(0, tiles, 1, threads, [&](int64_t begin, int64_t end) {
            const int64_t last = end * token_tile;
            body(begin * token_tile, last < call.tokens ? last : call.tokens, int64_t{0}, row_blocks);
        });
    } else {
        core::parallel_for(0, row_blocks, 1, threads,
                           [&](int64_t begin, int64_t end) { body(int64_t{0}, call.tokens, begin, end); });
    }
}

// kPortableTile tokens from `token` on, as fp32 [cols, kPortableTile], zero past the last token: the portable kernels
// multiply one weight by one row of it, a loop that every compiler can put into vector registers.
void pack_token_tile(const LinearCall& call, int64_t token, float* tile);

}  // namespace sparsecore::cpu
