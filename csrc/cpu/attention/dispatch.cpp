#include <string>

#include "core/buffer.h"
#include "core/checked.h"
#include "core/error.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "cpu/attention/attention.h"
#include "cpu/attention/kernels.h"

namespace sparsecore::cpu {

namespace {

using core::Span;

void check_bits(const AttentionBits& bits, int threads) {
    if (bits.msb_bits < 2 || bits.lsb_bits < 0 || bits.lsb_bits > 16 || bits.msb_bits > 16 - bits.lsb_bits) {
        throw core::Error("InvalidValueError",
                          std::to_string(bits.msb_bits) + " + " + std::to_string(bits.lsb_bits) + " bits",
                          "msb_bits, lsb_bits", "2 <= msb, 0 <= lsb, sum <= 16");
    }
    if (threads < 1) {
        throw core::Error("InvalidValueError", "threads is " + std::to_string(threads), "threads", "at least 1");
    }
}

void check_inputs(const Span& q, const Span& k, const Span& v, const Span* mask) {
    core::require_shape(q, "q", {-1, -1, -1, -1});
    core::require_float(q, "q");
    core::require_shape(k, "k", {q.shape[0], q.shape[1], -1, q.shape[3]});
    core::require_dtype(k, "k", q.dtype);
    core::require_shape(v, "v", {q.shape[0], q.shape[1], k.shape[2], -1});
    core::require_dtype(v, "v", q.dtype);
    if (mask != nullptr) {
        core::require_shape(*mask, "mask", {q.shape[0], 1, -1, k.shape[2]});
        core::require_dtype(*mask, "mask", core::DType::U8);
        if (mask->shape[2] != 1) core::require_shape(*mask, "mask", {q.shape[0], 1, q.shape[2], k.shape[2]});
    }
}

void check_outputs(const Span& q, const Span& k, const Span& v, const Span* mask, const Span& out, const Span& sums,
                   const Span& needs) {
    core::require_shape(out, "out", {q.shape[0], q.shape[1], q.shape[2], v.shape[3]});
    core::require_dtype(out, "out", q.dtype);
    core::require_shape(sums, "column_sums", {q.shape[0], q.shape[1], k.shape[2]});
    core::require_dtype(sums, "column_sums", core::DType::F32);
    core::require_shape(needs, "needs_lsb", {q.shape[0], q.shape[1], q.shape[2]});
    core::require_dtype(needs, "needs_lsb", core::DType::U8);
    const Span* outputs[] = {&out, &sums, &needs};
    const char* names[] = {"out", "column_sums", "needs_lsb"};
    for (int i = 0; i < 3; ++i) {
        core::require_disjoint(*outputs[i], names[i], q, "q");
        core::require_disjoint(*outputs[i], names[i], k, "k");
        core::require_disjoint(*outputs[i], names[i], v, "v");
        if (mask != nullptr) core::require_disjoint(*outputs[i], names[i], *mask, "mask");
        for (int j = 0; j < i; ++j) core::require_disjoint(*outputs[i], names[i], *outputs[j], names[j]);
    }
}

AttentionTensor tensor(const Span& s) {
    return {s.data, s.strides[0], s.strides[1], s.strides[2], s.ndim == 4 ? s.strides[3] : 0};
}

AttentionProblem problem_of(const Span& q, const Span& k, const Span& v, const Span* mask, const AttentionBits& bits) {
    AttentionProblem p;
    p.dtype = q.dtype;
    p.batch = q.shape[0];
    p.heads = q.shape[1];
    p.queries = q.shape[2];
    p.keys = k.shape[2];
    p.width = q.shape[3];
    p.value_width = v.shape[3];
    p.q = tensor(q);
    p.k = tensor(k);
    p.v = tensor(v);
    if (mask != nullptr && p.keys > 0) {
        p.mask = tensor(*mask);
        p.mask.head_stride = 0;
        if (mask->shape[2] == 1) p.mask.token_stride = 0;
    }
    p.scale = bits.scale;
    p.threshold = bits.threshold;
    p.msb_bits = bits.msb_bits;
    p.lsb_bits = bits.lsb_bits;
    return p;
}

AttentionKernels kernels([[maybe_unused]] const AttentionProblem& p) {
#if defined(SPARSECORE_HAVE_AVX512)
    // The vector kernel sums in 32 bits.
    const int64_t product = int64_t{1} << (2 * (p.msb_bits + p.lsb_bits) - 2);
    const bool exact = p.width < (int64_t{1} << 31) / product;
    if (exact && static_cast<uint32_t>(core::runtime_isa()) >= static_cast<uint32_t>(core::Isa::Avx512)) {
        return attention_avx512();
    }
#endif
    return attention_portable();
}

// The memory of one call, shared by its threads. It is kept for the next call unless it is large.
struct Memory {
    static constexpr int64_t kKeptBytes = 64 << 20;
    core::AlignedBuffer high, whole, scales, values, tile_sums;

    bool large() const {
        return high.bytes() + whole.bytes() + scales.bytes() + values.bytes() + tile_sums.bytes() > kKeptBytes;
    }

    AttentionKeys reserve(const AttentionProblem& p) {
        const int64_t heads = core::checked_mul(p.batch, p.heads, "heads");
        const int64_t keys = core::checked_mul(heads, padded_keys(p), "keys");
        const int64_t integers = core::checked_mul(core::checked_mul(keys, padded_width(p), "keys"), 2, "keys");
        AttentionKeys result;
        result.whole = static_cast<int16_t*>(whole.reserve(integers));
        result.high = p.lsb_bits > 0 ? static_cast<int16_t*>(high.reserve(integers)) : result.whole;
        result.scales = static_cast<float*>(scales.reserve(core::checked_mul(keys, 4, "keys")));
        const int64_t count = core::checked_mul(core::checked_mul(heads, p.keys, "values"), p.value_width, "values");
        result.values = static_cast<float*>(values.reserve(core::checked_mul(count, 4, "values")));
        const int64_t sums = core::checked_mul(core::checked_mul(keys, query_tiles(p), "column sums"), 4, "column sums");
        result.tile_sums = static_cast<float*>(tile_sums.reserve(sums));
        return result;
    }
};

AttentionScratch thread_scratch(const AttentionProblem& p) {
    thread_local core::AlignedBuffer queries, scales, scores, sums, row;
    const int64_t tile = query_tile(p);
    AttentionScratch scratch;
    scratch.queries = static_cast<int16_t*>(queries.reserve(core::checked_mul(tile * 2, padded_width(p), "queries")));
    scratch.query_scales = static_cast<float*>(scales.reserve(tile * 4));
    scratch.scores = static_cast<float*>(scores.reserve(core::checked_mul(tile * 4, padded_keys(p), "scores")));
    scratch.sums = static_cast<float*>(sums.reserve(core::checked_mul(tile * 4, padded_values(p), "results")));
    scratch.row = static_cast<float*>(row.reserve(core::checked_mul(padded_width(p), 64, "row")));
    return scratch;
}

void add_tiles(const AttentionProblem& p, const AttentionKeys& keys, int64_t head) {
    auto* out = static_cast<float*>(p.sums.data) + token_offset(p, p.sums, head, 0);
    for (int64_t j = 0; j < p.keys; ++j) {
        float sum = 0.0f;
        for (int64_t tile = 0; tile < query_tiles(p); ++tile) {
            sum += keys.tile_sums[(head * query_tiles(p) + tile) * padded_keys(p) + j];
        }
        out[j * p.sums.token_stride] = sum;
    }
}

}  // namespace

void bitplane_attention(const Span& q, const Span& k, const Span& v, const Span* mask, const AttentionBits& bits,
                        const Span& out, const Span& column_sums, const Span& needs_lsb, int threads) {
    check_bits(bits, threads);
    check_inputs(q, k, v, mask);
    check_outputs(q, k, v, mask, out, column_sums, needs_lsb);
    AttentionProblem p = problem_of(q, k, v, mask, bits);
    p.out = tensor(out);
    p.sums = tensor(column_sums);
    p.needs = tensor(needs_lsb);
    const int64_t heads = p.batch * p.heads, blocks = padded_keys(p) / kKeyBlock, tiles = query_tiles(p);
    if (heads == 0) return;
    thread_local Memory memory;
    const AttentionKeys keys = memory.reserve(p);
    const AttentionKernels table = kernels(p);
    core::parallel_for(0, heads * blocks, 1, threads, [&](int64_t begin, int64_t end) {
        const AttentionScratch scratch = thread_scratch(p);
        for (int64_t i = begin; i < end; ++i) table.prepare(p, keys, scratch, i / blocks, i % blocks);
    });
    core::parallel_for(0, heads * tiles, 1, threads, [&](int64_t begin, int64_t end) {
        const AttentionScratch scratch = thread_scratch(p);
        for (int64_t i = begin; i < end; ++i) table.run(p, keys, scratch, i / tiles, i % tiles);
    });
    for (int64_t head = 0; head < heads; ++head) add_tiles(p, keys, head);
    if (memory.large()) memory = Memory();
}

}  // namespace sparsecore::cpu
