// Decode attention and its store on the emulated GPU: launches and kernels in all schedules, against doubles.
#include "cuda/attention/decode/decode.h"

#include "cuda/attention/decode/store.h"
#include "cuda/emulator/device.h"
#include "decode_problem.h"

using namespace decode_problem;
namespace decode = cuda::decode;

namespace {

constexpr double kTolerance = 2e-5;

Store some_store(int64_t batch, int64_t tokens) {
    return random_store(batch, tokens, {32, 33, 64, 80, 127, 128, 200}, {16, 20, 64, 128, 130});
}

void use_any_schedule() {
    const auto& all = cuda::emulator::kSchedules;
    cuda::emulator::device().schedule = all[static_cast<size_t>(harness::integer(0, static_cast<int64_t>(all.size()) - 1))];
}

// The same store cut into pages that lie in any order, among some that are nobody's.
struct PagedStore {
    std::vector<Part> parts;
    cpu::DecodeStore spans;
    Part table;
};

PagedStore paged(const Store& s) {
    const int64_t size = harness::pick<int64_t>({16, 32, 64}), of_each = (s.tokens + size - 1) / size + 1;
    const int64_t pages = s.batch * of_each + 2;
    std::vector<int64_t> order(static_cast<size_t>(pages));
    std::iota(order.begin(), order.end(), int64_t{0});
    std::shuffle(order.begin(), order.end(), harness::random());
    PagedStore made;
    made.spans.msb_bits = s.spans.msb_bits;
    made.table = part(DType::I32, {s.batch, of_each});
    for (int64_t i = 0; i < s.batch * of_each; ++i) {
        made.table.span.as<int32_t>()[i] = i % of_each * size < s.tokens ? static_cast<int32_t>(order[static_cast<size_t>(i)]) : -1;
    }
    for (size_t at = 0; at < s.parts.size(); ++at) {
        const Span& from = s.parts[at].span;
        std::vector<int64_t> shape{pages, s.heads, size};
        if (from.ndim == 4) shape.push_back(from.shape[3]);
        const int64_t bytes = (from.ndim == 4 ? from.shape[3] : 1) * itemsize(from.dtype);
        made.parts.push_back(part(from.dtype, shape));
        for (int64_t i = 0; i < s.batch * s.heads * s.tokens; ++i) {
            const int64_t slot = i % s.tokens, head = i / s.tokens % s.heads, b = i / s.tokens / s.heads;
            const int64_t page = made.table.span.as<int32_t>()[b * of_each + slot / size];
            std::copy_n(from.as<uint8_t>() + i * bytes, bytes,
                        made.parts.back().memory.bytes.data() + ((page * s.heads + head) * size + slot % size) * bytes);
        }
        (at < s.spans.keys.size() ? made.spans.keys : made.spans.values).push_back(made.parts.back().span);
    }
    return made;
}

Result run(const Problem& p, const cpu::DecodeStore& store, const Part* table, int multiprocessors) {
    Result r = empty_result(p);
    const decode::Sizes sizes{p.store.batch, p.heads, p.store.heads, p.store.value_width, p.slots(), p.rule.value_keep < 1.0,
                              p.rule.group_values};
    const int64_t bytes = decode::workspace_bytes(sizes, decode::splits_for(sizes, multiprocessors));
    std::vector<uint8_t> memory(static_cast<size_t>(bytes) + 16, 0xff);  // NaN
    auto* workspace = memory.data() + (16 - reinterpret_cast<uintptr_t>(memory.data()) % 16) % 16;
    cpu::DecodeSeen seen = seen_of(p);
    seen.pages = table == nullptr ? nullptr : &table->span;
    decode::decode_launch(decode::decode_args(p.q.span, store, seen, p.rule, r.outputs(),
                                              make_span(workspace, DType::U8, {bytes}), multiprocessors), 0);
    return r;
}

}  // namespace

TEST(cuda_decode_attention_equals_the_double_reference_in_the_emulator) {
    for (const int64_t tokens : {1, 33, 200, 33, 70, 33, 70, 33}) {
        use_any_schedule();
        const Problem p = random_problem(some_store(harness::integer(1, 2), tokens), {1, 2, 4, 7});
        const PagedStore pages = paged(p.store);
        const int multiprocessors = harness::pick<int>({1, 4});
        const Result r = run(p, p.store.spans, nullptr, multiprocessors);
        compare(p, r, kTolerance);
        CHECK(equal(run(p, pages.spans, &pages.table, multiprocessors), r));
    }
}

TEST(cuda_decode_attention_has_the_same_bits_in_all_schedules) {
    for (const int64_t tokens : {33, 200, 700}) {
        Problem p = random_problem(some_store(1, tokens), {1, 2});
        // In one split the longest takes two tiles of V rows.
        while (tokens == 700 && p.seen[0].size() <= 512) p = random_problem(some_store(1, tokens), {1, 2});
        p.rule.threshold = 2.0f;
        const int multiprocessors = tokens == 700 ? 0 : 2;
        Result first;
        for (const cuda::emulator::Schedule schedule : cuda::emulator::kSchedules) {
            cuda::emulator::device().schedule = schedule;
            Result r = run(p, p.store.spans, nullptr, multiprocessors);
            CHECK(first.out.memory.bytes.empty() || equal(r, first));
            first = std::move(r);
        }
        compare(p, first, kTolerance);
    }
}

TEST(cuda_decode_attention_takes_more_query_heads_than_a_block) {
    const Problem p = random_problem(some_store(1, 40), {9, 18});
    compare(p, run(p, p.store.spans, nullptr, 4), kTolerance);
}

TEST(cuda_decode_attention_merges_many_splits) {
    use_any_schedule();
    Problem p = random_problem(some_store(1, 700), {1, 3});
    p.rule.threshold = 2.0f;
    compare(p, run(p, p.store.spans, nullptr, 4), kTolerance);
}

TEST(cuda_decode_attention_of_nothing) {
    const Problem p = random_problem(some_store(2, 0), {1, 3});
    compare(p, run(p, p.store.spans, nullptr, 4), kTolerance);
}

// Equal keys have equal probabilities: the first rows are chosen.
TEST(cuda_decode_attention_gives_ties_to_the_lower_row) {
    for (const bool group : {false, true}) {
        Problem p = random_problem(some_store(1, 600), {2});
        Store& s = p.store;
        for (Part& each : s.parts) {
            if (each.span.data == s.spans.values[0].data || (s.value_bits != 0 && each.span.data == s.spans.values[1].data)) continue;
            const int64_t bytes = (each.span.ndim == 4 ? each.span.shape[3] : 1) * itemsize(each.span.dtype);
            for (int64_t i = 1; i < s.heads * s.tokens; ++i) std::copy_n(each.memory.bytes.data(), bytes, each.memory.bytes.data() + i * bytes);
        }
        for (int64_t i = 1; i < s.heads * s.tokens; ++i) {
            const int64_t bytes = s.width * itemsize(s.dtype);
            std::copy_n(s.k.memory.bytes.data(), bytes, s.k.memory.bytes.data() + i * bytes);
        }
        p.rule.value_keep = 0.5, p.rule.value_mass = 0.0f, p.rule.group_values = group;
        const Result r = run(p, s.spans, nullptr, 2);
        for (int64_t head = 0; head < p.heads; ++head) {
            if (!p.alive(0, head)) continue;
            const size_t n = p.seen[0].size();
            Choice choice{std::vector<bool>(n, false), true};
            std::fill_n(choice.rows.begin(), std::max<size_t>(1, n / 2), true);
            check_values(p, r, 0, head, std::vector<double>(n, 1.0 / static_cast<double>(n)), choice, kTolerance);
        }
    }
}

// Nothing of a row that is not multiplied reaches the result, not even from a query of the same group.
TEST(cuda_decode_attention_ignores_inf_and_nan_in_dropped_rows) {
    Problem p = random_problem(some_store(1, 130), {4});
    while (p.store.value_bits != 0) p = random_problem(some_store(1, 130), {4});
    p.rule.value_keep = 0.1, p.rule.value_mass = 0.0f, p.rule.group_values = false;
    const Result clean = run(p, p.store.spans, nullptr, 4);
    Store& s = p.store;
    const int64_t group = p.heads / s.heads;
    std::vector<std::vector<double>> ranks;
    for (int64_t head = 0; head < group; ++head) {
        const bool low = clean.low.memory.bytes[static_cast<size_t>(head)] != 0;
        ranks.push_back(p.alive(0, head) ? softmax(p, 0, head, s.msb_bits != 0 && !low).p : std::vector<double>());
    }
    // A row that the first query keeps and the others drop, if there is one.
    for (size_t i = 0; i < p.seen[0].size(); ++i) {
        std::vector<int64_t> keepers;
        bool sure = true;
        for (int64_t head = 0; head < group; ++head) {
            if (!p.alive(0, head)) continue;
            const auto& own = ranks[static_cast<size_t>(head)];
            const Choice choice = choose(p, {own}, own);
            sure = sure && choice.sure;
            if (choice.rows[i]) keepers.push_back(head);
        }
        if (!sure || keepers.size() != 1) continue;
        const auto place = static_cast<int64_t>(p.seen[0][i]) * s.value_width;
        const float before = core::load_float(s.spans.values[0].data, place, s.dtype);
        core::store_float(s.spans.values[0].data, place, s.dtype, NAN);
        const Result dirty = run(p, s.spans, nullptr, 4);
        for (int64_t head = 0; head < group; ++head) {
            const float got = core::load_float(dirty.out.span.data, head * s.value_width, s.dtype);
            CHECK(std::isnan(got) == (head == keepers[0]));
        }
        core::store_float(s.spans.values[0].data, place, s.dtype, before);
        return;
    }
}

TEST(cuda_decode_attention_stays_inside_of_the_store_with_wrong_indices) {
    for (int round = 0; round < 4; ++round) {
        Problem p = random_problem(some_store(2, 70), {1, 4});
        PagedStore pages = paged(p.store);
        const auto wrong = [] { return harness::pick<int64_t>({-1, 3, 69, 70, 71, INT64_MAX, INT64_MIN}); };
        for (Part* each : {&p.starts, &p.lengths, &p.counts, &p.rows}) {
            for (int64_t i = 0; i < each->span.bytes / 8; ++i) each->span.as<int64_t>()[i] = wrong();
        }
        for (int64_t i = 0; i < pages.table.span.bytes / 4; ++i) {
            pages.table.span.as<int32_t>()[i] = harness::pick<int32_t>({-1, 0, 1000, INT32_MAX, INT32_MIN});
        }
        run(p, p.store.spans, nullptr, 4);
        run(p, pages.spans, &pages.table, 4);
    }
}

TEST(cuda_decode_calls_check_their_arguments) {
    Problem p = random_problem(some_store(1, 40), {2});
    const PagedStore pages = paged(p.store);
    const auto args = [&](const Span& q, const cpu::DecodeStore& store, const Part* table, int64_t bytes) {
        const Result r = empty_result(p);
        std::vector<uint64_t> memory(static_cast<size_t>(bytes) / 8 + 2);
        auto* workspace = reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(memory.data()) + 15) / 16 * 16);
        cpu::DecodeSeen seen = seen_of(p);
        seen.pages = table == nullptr ? nullptr : &table->span;
        decode::decode_args(q, store, seen, p.rule, r.outputs(), make_span(workspace, DType::U8, {bytes}), 4);
    };
    constexpr int64_t kPlenty = 1 << 20;
    args(p.q.span, p.store.spans, nullptr, kPlenty);
    args(p.q.span, pages.spans, &pages.table, kPlenty);
    CHECK_ERROR("ShapeError", args(p.q.span, p.store.spans, nullptr, 100));
    const int64_t slots = p.store.spans.keys[0].shape[2];
    if ((slots & (slots - 1)) != 0) CHECK_ERROR("ShapeError", args(p.q.span, p.store.spans, &pages.table, kPlenty));
    CHECK_ERROR("ShapeError", args(random_part(p.store.dtype, {1, p.heads, 1, p.store.width + 64}).span, p.store.spans, nullptr, kPlenty));
    Part wide = random_part(DType::I64, {1, pages.table.span.shape[1]});
    CHECK_ERROR("DtypeError", args(p.q.span, pages.spans, &wide, kPlenty));
    Store large = empty_store(1, 1, 40, 300, 8, 8, 0, p.store.dtype);
    p.heads = 1;
    p.kept = part(DType::U8, {1, 1});
    p.store.value_width = 8;
    CHECK_ERROR("ShapeError", args(random_part(p.store.dtype, {1, 1, 1, 300}).span, large.spans, nullptr, kPlenty));
}

namespace {

// Appends the tokens of `s` to an empty store of its kind by the kernel, some at a time, and gives that store.
Store append_by_kernel(const Store& s, int64_t at_once) {
    Store to = empty_store(s.batch, s.heads, s.tokens, s.width, s.value_width, s.msb_bits, s.value_bits, s.dtype);
    for (int64_t first = 0; first < s.tokens; first += at_once) {
        const int64_t count = std::min(at_once, s.tokens - first);
        Span k = s.k.span, v = s.v.span;
        for (Span* each : {&k, &v}) {
            each->data = each->as<uint8_t>() + first * each->shape[3] * itemsize(each->dtype);
            each->bytes -= first * each->shape[3] * itemsize(each->dtype);
            each->shape[2] = count;
        }
        const Part positions = integers(std::vector<int64_t>(static_cast<size_t>(s.batch), first));
        decode::append_launch(decode::append_args(to.spans.keys, to.spans.values, k, v, positions.span, nullptr, s.msb_bits, s.value_bits), 0);
    }
    return to;
}

}  // namespace

TEST(cuda_kv_append_writes_the_bytes_of_the_cpu) {
    for (int round = 0; round < 12; ++round) {
        Store s = random_store(harness::integer(1, 2), harness::integer(1, 9), {1, 7, 32, 33, 128, 300}, {1, 16, 65});
        if (round == 0) core::store_float(s.k.memory.data(), 0, s.dtype, INFINITY);
        if (round == 1) std::fill(s.k.memory.bytes.begin(), s.k.memory.bytes.end(), uint8_t{0});
        const Part start = integers(std::vector<int64_t>(static_cast<size_t>(s.batch), 0));
        formats::kv_append(s.spans.keys, s.spans.values, s.k.span, s.v.span, start.span, s.msb_bits, s.value_bits, 1);
        for (const cuda::emulator::Schedule schedule : cuda::emulator::kSchedules) {
            cuda::emulator::device().schedule = schedule;
            const Store got = append_by_kernel(s, harness::integer(1, 4));
            for (size_t i = 0; i < s.parts.size(); ++i) CHECK(got.parts[i].memory.bytes == s.parts[i].memory.bytes);
        }
    }
}

TEST(cuda_kv_append_leaves_out_tokens_that_are_outside_of_the_store) {
    const Store s = random_store(1, 4, {32}, {16});
    for (const int64_t position : {int64_t{-1}, int64_t{4}, INT64_MAX, INT64_MIN}) {
        Store to = empty_store(1, s.heads, 4, 32, 16, s.msb_bits, s.value_bits, s.dtype);
        const Part at = integers({position});
        decode::append_launch(decode::append_args(to.spans.keys, to.spans.values, s.k.span, s.v.span, at.span, nullptr, s.msb_bits, s.value_bits), 0);
        for (const Part& each : to.parts) CHECK(is_zero(each, 0, each.span.bytes / itemsize(each.span.dtype)));
    }
}

TEST(cuda_kv_append_fills_pages) {
    const Store s = random_store(2, 40, {32, 33}, {16});
    const PagedStore expected = paged(s);
    PagedStore got = paged(s);
    got.table = part(DType::I32, {2, expected.table.span.shape[1]});
    got.spans.keys.clear(), got.spans.values.clear();
    std::copy_n(expected.table.span.as<int32_t>(), expected.table.span.bytes / 4, got.table.span.as<int32_t>());
    for (size_t i = 0; i < expected.parts.size(); ++i) {
        const Span& from = expected.parts[i].span;
        got.parts[i] = part(from.dtype, {from.shape, from.shape + from.ndim});
        (i < s.spans.keys.size() ? got.spans.keys : got.spans.values).push_back(got.parts[i].span);
    }
    const Part start = integers({0, 0});
    decode::append_launch(decode::append_args(got.spans.keys, got.spans.values, s.k.span, s.v.span, start.span, &got.table.span,
                                              s.msb_bits, s.value_bits), 0);
    for (size_t i = 0; i < s.parts.size(); ++i) CHECK(got.parts[i].memory.bytes == expected.parts[i].memory.bytes);
}

TEST(cuda_kv_compact_moves_rows_in_place) {
    for (int round = 0; round < 4; ++round) {
        Store s = random_store(1, harness::integer(1, 300), {1, 32, 33, 128}, {1, 16, 64});
        std::vector<int64_t> keep;
        for (int64_t i = 0; i < s.tokens; ++i) {
            if (harness::integer(0, 1) == 1) keep.push_back(i);
        }
        Part index = integers(keep), counts = integers({static_cast<int64_t>(keep.size())});
        index.span.ndim = 2;
        index.span.shape[1] = index.span.shape[0], index.span.shape[0] = 1;
        index.span.strides[1] = 1, index.span.strides[0] = static_cast<int64_t>(keep.size());
        const std::vector<Part> before = s.parts;
        for (const cuda::emulator::Schedule schedule : cuda::emulator::kSchedules) {
            cuda::emulator::device().schedule = schedule;
            std::vector<Part> moved = before;
            std::vector<Span> expected, spans;
            for (size_t i = 0; i < moved.size(); ++i) {
                s.parts[i].memory.bytes = before[i].memory.bytes;
                s.parts[i].span.data = s.parts[i].memory.data(), expected.push_back(s.parts[i].span);
                moved[i].span.data = moved[i].memory.data(), spans.push_back(moved[i].span);
            }
            formats::kv_compact(expected, index.span, counts.span, 1);
            decode::compact_launch(decode::compact_args(spans, index.span, counts.span), 0);
            for (size_t i = 0; i < moved.size(); ++i) CHECK(moved[i].memory.bytes == s.parts[i].memory.bytes);
        }
    }
}
