#include "cpu/rows/rows.h"

#include <algorithm>
#include <numeric>

#include "harness.h"
#include "weights.h"

using namespace sparsecore;
using namespace weights;
using core::make_span;

namespace {

Memory random_bytes(int64_t count) {
    Memory memory(count);
    for (uint8_t& byte : memory.bytes) byte = static_cast<uint8_t>(harness::integer(0, 255));
    return memory;
}

void set_index(Memory& memory, int64_t i, int64_t value) { static_cast<int64_t*>(memory.data())[i] = value; }

}  // namespace

TEST(rows_go_there_and_back) {
    for (int round = 0; round < 20; ++round) {
        const int64_t batch = harness::integer(1, 3), rows = harness::integer(1, 300), bytes = harness::integer(0, 700);
        const int64_t number = harness::integer(0, 300), threads = harness::integer(1, 4);
        Memory x = random_bytes(batch * rows * bytes), index(batch * number * 8), out(batch * number * bytes);
        for (int64_t i = 0; i < batch * number; ++i) set_index(index, i, harness::integer(0, rows - 1));
        const Span xs = make_span(x.data(), DType::U8, {batch, rows, bytes});
        const Span is = make_span(index.data(), DType::I64, {batch, number});
        const Span os = make_span(out.data(), DType::U8, {batch, number, bytes});
        cpu::gather_rows(xs, is, os, static_cast<int>(threads));
        Memory back = random_bytes(batch * rows * bytes), slow = back;
        for (int64_t i = 0; i < batch * number; ++i) {
            const int64_t row = i / number * rows + static_cast<int64_t*>(index.data())[i];
            CHECK(std::equal(out.bytes.begin() + i * bytes, out.bytes.begin() + (i + 1) * bytes, x.bytes.begin() + row * bytes));
        }
        for (int64_t i = 0; i < batch * number; ++i) set_index(index, i, harness::integer(-2, rows + 1));
        for (int64_t i = 0; i < batch * number; ++i) {
            const int64_t to = static_cast<int64_t*>(index.data())[i];
            if (to < 0 || to >= rows) continue;
            std::copy_n(out.bytes.begin() + i * bytes, bytes, slow.bytes.begin() + (i / number * rows + to) * bytes);
        }
        cpu::scatter_rows(make_span(back.data(), DType::U8, {batch, rows, bytes}), is, os, static_cast<int>(threads));
        CHECK(back.bytes == slow.bytes);
    }
}

TEST(ragged_topk_agrees_with_sorting) {
    for (int round = 0; round < 20; ++round) {
        const int64_t batch = harness::integer(1, 4), slots = harness::pick<int64_t>({1, 2, 30, 200}), width = slots + 1;
        Memory scores(batch * slots * 8), counts(batch * 8), keep(batch * 8), index(batch * width * 8);
        const int64_t range = harness::pick<int64_t>({2, int64_t{1} << 60});
        for (int64_t i = 0; i < batch * slots; ++i) set_index(scores, i, harness::integer(-range, range));
        for (int64_t b = 0; b < batch; ++b) {
            const int64_t count = harness::integer(0, slots);
            set_index(counts, b, count);
            set_index(keep, b, harness::integer(0, count));
        }
        cpu::ragged_topk(make_span(scores.data(), DType::I64, {batch, slots}), make_span(counts.data(), DType::I64, {batch}),
                         make_span(keep.data(), DType::I64, {batch}), make_span(index.data(), DType::I64, {batch, width}), 2);
        for (int64_t b = 0; b < batch; ++b) {
            const int64_t *row = static_cast<int64_t*>(scores.data()) + b * slots, kept = static_cast<int64_t*>(keep.data())[b];
            std::vector<int64_t> order(static_cast<size_t>(static_cast<int64_t*>(counts.data())[b]));
            std::iota(order.begin(), order.end(), int64_t{0});
            std::stable_sort(order.begin(), order.end(), [row](int64_t a, int64_t c) { return row[a] > row[c]; });
            order.resize(static_cast<size_t>(kept));
            std::sort(order.begin(), order.end());
            order.resize(static_cast<size_t>(width));
            const auto* found = static_cast<int64_t*>(index.data()) + b * width;
            CHECK(std::equal(order.begin(), order.end(), found));
        }
    }
}

TEST(rows_check_their_arguments) {
    Memory x(2 * 5 * 12), index(2 * 3 * 8), out(2 * 3 * 12), counts(16), keep(16), scores(2 * 5 * 8);
    const Span xs = make_span(x.data(), DType::U8, {2, 5, 12}), is = make_span(index.data(), DType::I64, {2, 3});
    const Span os = make_span(out.data(), DType::U8, {2, 3, 12});
    cpu::gather_rows(xs, is, os, 1);
    for (int64_t bad : {int64_t{-1}, int64_t{5}, INT64_MAX, INT64_MIN}) {
        set_index(index, 4, bad);
        CHECK_ERROR("InvalidValueError", cpu::gather_rows(xs, is, os, 2));
        cpu::scatter_rows(xs, is, os, 2);
    }
    set_index(index, 4, 0);
    CHECK_ERROR("ShapeError", cpu::gather_rows(xs, is, make_span(out.data(), DType::U8, {2, 3, 11}), 1));
    CHECK_ERROR("DtypeError", cpu::gather_rows(xs, make_span(index.data(), DType::I32, {2, 3}), os, 1));
    CHECK_ERROR("AliasingError", cpu::gather_rows(xs, is, make_span(x.data(), DType::U8, {2, 3, 12}), 1));
    Span expanded = xs;
    expanded.strides[1] = 0;
    CHECK_ERROR("AliasingError", cpu::scatter_rows(expanded, is, os, 1));
    Span beyond = xs;
    beyond.strides[1] = 13;
    CHECK_ERROR("SpanError", cpu::scatter_rows(beyond, is, os, 1));

    const Span ss = make_span(scores.data(), DType::I64, {2, 5}), cs = make_span(counts.data(), DType::I64, {2});
    const Span ks = make_span(keep.data(), DType::I64, {2});
    const auto topk = [&](int64_t count, int64_t kept) {
        set_index(counts, 1, count);
        set_index(keep, 1, kept);
        cpu::ragged_topk(ss, cs, ks, is, 1);
    };
    topk(5, 3);
    CHECK_ERROR("InvalidValueError", topk(6, 3));
    CHECK_ERROR("InvalidValueError", topk(-1, 0));
    CHECK_ERROR("InvalidValueError", topk(2, 3));
    CHECK_ERROR("InvalidValueError", topk(5, 4));
    CHECK_ERROR("InvalidValueError", topk(5, -1));
}
