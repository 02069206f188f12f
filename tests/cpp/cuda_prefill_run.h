// Problems of scored attention on the emulated GPU.
#pragma once

#include "cuda/attention/prefill/prefill.h"
#include "cuda/emulator/device.h"
#include "on_device.h"
#include "prefill_problem.h"

namespace prefill {

enum class Scores { None, Heads, All };

struct Lists {
    std::vector<int64_t> offsets;
    std::vector<int32_t> indices;
};

inline Lists lists_of(const Problem& p) {
    Lists lists;
    for (int64_t h = 0; h < p.list_heads && p.query_block > 0; ++h) {
        for (int64_t query = 0; query < p.query_blocks(); ++query) {
            lists.offsets.push_back(static_cast<int64_t>(lists.indices.size()));
            for (int64_t key = 0; key < p.key_blocks(); ++key) {
                if (p.lists(h, query, key)) lists.indices.push_back(static_cast<int32_t>(key));
            }
        }
        lists.offsets.push_back(static_cast<int64_t>(lists.indices.size()));
    }
    return lists;
}

inline Span mask_span(Problem& p) {
    const Shape& s = p.shape;
    Span mask = make_span(p.mask.data(), DType::U8, {s.batch, s.heads(), s.queries, s.keys});
    if (!p.mask_per_query) {
        mask.bytes = s.batch * s.keys;
        mask.strides[0] = s.keys, mask.strides[1] = mask.strides[2] = 0;
    }
    return mask;
}

// Runs `launch` on the arguments of a problem. What is not asked for stays zero; bytes of `used`, which the kernels only set, are counted.
template <class Launch>
Result run_by(Launch&& launch, Problem& p, Scores scores, Lists lists) {
    const Shape& s = p.shape;
    const int64_t rows = s.batch * s.heads();
    Result r{Memory(rows * s.queries * s.value_width * itemsize(p.dtype)), Memory(rows * s.queries * 4),
             Memory(rows * s.keys * 8), Memory(rows * 8), Memory(rows * 4)};
    const int64_t floats = cuda::prefill_scratch_floats(rows * s.queries, s.keys);
    Memory used(rows * s.keys), scratch(floats * 4), odd_count(8), odd_queries(rows * s.queries * 8);
    const Span mask = mask_span(p), counted = make_span(p.counted.data(), DType::U8, {s.batch, s.queries});
    const Span out = make_span(r.out.data(), p.dtype, {s.batch, s.heads(), s.queries, s.value_width});
    const Span lse = make_span(r.lse.data(), DType::F32, {s.batch, s.heads(), s.queries});
    const Span tokens = make_span(r.tokens.data(), DType::I64, {s.batch, s.heads(), s.keys});
    const Span heads = make_span(r.heads.data(), DType::I64, {s.batch, s.heads()});
    const Span used_span = make_span(used.data(), DType::U8, {s.batch, s.heads(), s.keys});
    const Span offsets = make_span(lists.offsets.data(), DType::I64, {1, p.list_heads, static_cast<int64_t>(lists.offsets.size()) / p.list_heads});
    const Span indices = make_span(lists.indices.data(), DType::I32, {static_cast<int64_t>(lists.indices.size())});
    const cuda::PrefillBlocks blocks{offsets, indices, p.query_block, p.key_block};
    const Span scratch_span = make_span(scratch.data(), DType::F32, {floats}), count = make_span(odd_count.data(), DType::I64, {1});
    const Span odd = make_span(odd_queries.data(), DType::I64, {rows * s.queries});
    const cuda::PrefillArgs args = cuda::prefill_args(
        {p.q.span, p.k.span, p.v.span, p.has_mask ? &mask : nullptr, p.has_counted ? &counted : nullptr, p.causal, p.scale,
         p.value_keep},
        p.query_block > 0 ? &blocks : nullptr,
        {out, lse, scores == Scores::All ? &tokens : nullptr, scores == Scores::None ? nullptr : &heads, &used_span},
        {scratch_span, count, odd});
    launch(args);
    for (int64_t i = 0; i < rows * s.keys; ++i) {
        reinterpret_cast<int32_t*>(r.used.bytes.data())[i / s.keys] += used.bytes[static_cast<size_t>(i)];
    }
    return r;
}

// The same bits in all schedules; compared with float64 if all scores are there, or once those of the tokens are set to `tokens`.
template <class Launch>
Result check_in_all_schedules_by(Launch&& launch, Problem& p, Scores scores = Scores::All, const Memory* tokens = nullptr) {
    auto& device = cuda::emulator::device();
    const Lists lists = lists_of(p);
    Result first;
    for (const auto schedule : cuda::emulator::kSchedules) {
        device.schedule = schedule;
        const Result result = run_by(launch, p, scores, lists);
        if (first.out.bytes.empty()) first = result;
        CHECK(result == first);
    }
    device.schedule = {};
    if (tokens != nullptr) first.tokens = *tokens;
    if (scores == Scores::All || tokens != nullptr) compare(p, first);
    return first;
}

inline Problem random_problem_of(DType dtype, Shape shape, double value_keep = 1.0) {
    Problem p = random_problem();
    const int64_t heads = shape.heads();
    p.shape = shape;
    p.dtype = dtype;
    p.q = Tensor(shape.batch, heads, shape.queries, shape.width, dtype, 1.0f);
    p.k = Tensor(shape.batch, shape.key_heads, shape.keys, shape.width, dtype, harness::pick<float>({0.1f, 1.0f, 2.0f}));
    p.v = Tensor(shape.batch, shape.key_heads, shape.keys, shape.value_width, dtype, 1.0f);
    p.mask = Memory(shape.keys * (p.mask_per_query ? shape.batch * heads * shape.queries : shape.batch));
    p.counted = Memory(shape.batch * shape.queries);
    const int64_t one_in = harness::pick<int64_t>({1, 2, 10});
    for (uint8_t& byte : p.mask.bytes) byte = harness::integer(1, one_in) == 1 ? 0 : 255;
    for (uint8_t& byte : p.counted.bytes) byte = static_cast<uint8_t>(harness::integer(0, 1));
    p.value_keep = value_keep;
    return p;
}

inline DType random_half() { return harness::pick<DType>({DType::BF16, DType::F16}); }

// One kernel, with and without scores of tokens: by two sweeps over the keys, and by one.
template <class Launch>
void check_kernel(Launch&& launch, const Shape& shape, bool causal) {
    Problem p = random_problem_of(DType::BF16, shape);
    p.has_mask = p.mask_per_query = true;
    p.mask = Memory(shape.batch * shape.heads() * shape.queries * shape.keys);
    for (uint8_t& byte : p.mask.bytes) byte = static_cast<uint8_t>(harness::integer(0, 1));
    p.k = Tensor(shape.batch, shape.key_heads, shape.keys, shape.width, p.dtype, 2.0f);
    p.scale = 0.25f;
    p.causal = causal;
    const Result all = check_in_all_schedules_by(launch, p);
    check_in_all_schedules_by(launch, p, Scores::Heads, &all.tokens);
}

}  // namespace prefill
