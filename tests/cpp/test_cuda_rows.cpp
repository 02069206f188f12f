// Gathering and scattering rows on the emulator, in all its schedules, against copies one by one.
#include <stdexcept>

#include "core/error.h"
#include "cuda/emulator/device.h"
#include "cuda/rows/rows.h"
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

// [batch, rows, bytes] with gaps between rows, from some byte on.
struct GappedRows {
    Memory memory;
    Span span;
    GappedRows(int64_t batch, int64_t rows, int64_t bytes, int64_t multiple)
        : memory(random_bytes(batch * rows * (bytes + multiple) + multiple)),
          span(make_span(memory.data(), DType::U8, {batch, rows, bytes})) {
        if (rows == 0 || bytes == 0) return;
        span.strides[1] = bytes + multiple;
        span.strides[0] = rows * span.strides[1];
        span.data = memory.bytes.data() + multiple;
        span.bytes = static_cast<int64_t>(memory.bytes.size()) - multiple;
    }
    const uint8_t* row(int64_t b, int64_t s) const {
        return span.as<const uint8_t>() + b * span.strides[0] + s * span.strides[1];
    }
};

void check_moves(int64_t batch, int64_t rows, int64_t m, int64_t bytes, int64_t multiple) {
    const GappedRows x(batch, rows, bytes, multiple), packed(batch, m, bytes, multiple);
    std::vector<int64_t> index, positions;
    for (int64_t i = 0; i < batch * m; ++i) {
        index.push_back(harness::integer(-rows, rows - 1));
        positions.push_back(harness::pick<int64_t>({harness::integer(0, rows - 1), harness::integer(-2, rows + 1), INT64_MIN}));
    }
    Memory out(batch * m * bytes), sources = random_bytes(batch * rows * 4);
    cuda::gather_rows_launch(cuda::gather_rows_call(x.span, make_span(index.data(), DType::I64, {batch, m}),
                                                    make_span(out.data(), DType::U8, {batch, m, bytes})), 0);
    Memory whole = random_bytes(batch * rows * bytes), expected = whole;
    cuda::scatter_rows_launch(
        cuda::scatter_rows_call(make_span(whole.data(), DType::U8, {batch, rows, bytes}),
                                make_span(positions.data(), DType::I64, {batch, m}), packed.span,
                                make_span(sources.data(), DType::I32, {batch, rows})), 0);
    for (int64_t i = 0; i < batch * m; ++i) {
        const int64_t b = i / m, from = (index[static_cast<size_t>(i)] + rows) % rows, to = positions[static_cast<size_t>(i)];
        CHECK(std::equal(out.bytes.begin() + i * bytes, out.bytes.begin() + (i + 1) * bytes, x.row(b, from)));
        if (to < 0 || to >= rows) continue;
        std::copy_n(packed.row(b, i % m), bytes, expected.bytes.begin() + (b * rows + to) * bytes);
    }
    CHECK(whole.bytes == expected.bytes);
}

}  // namespace

TEST(cuda_rows_go_there_and_back) {
    for (int round = 0; round < 10; ++round) {
        for (const auto schedule : cuda::emulator::kSchedules) {
            cuda::emulator::device().schedule = schedule;
            const int64_t multiple = harness::pick<int64_t>({1, 2, 4, 8, 16});
            check_moves(harness::integer(1, 3), harness::integer(1, 40), harness::integer(0, 40), multiple * harness::integer(0, 70), multiple);
        }
    }
    cuda::emulator::device().schedule = {};
}

TEST(cuda_rows_check_their_arguments) {
    Memory x(2 * 5 * 12), index(2 * 3 * 8), out(2 * 3 * 12), sources(2 * 5 * 4);
    const Span xs = make_span(x.data(), DType::U8, {2, 5, 12}), is = make_span(index.data(), DType::I64, {2, 3});
    const Span os = make_span(out.data(), DType::U8, {2, 3, 12}), ss = make_span(sources.data(), DType::I32, {2, 5});
    cuda::gather_rows_launch(cuda::gather_rows_call(xs, is, os), 0);
    CHECK(cuda::gather_rows_call(xs, is, os).unit == 4);
    for (const int64_t outside : {int64_t{-6}, int64_t{5}}) {
        static_cast<int64_t*>(index.data())[4] = outside;
        bool stopped = false;
        try {
            cuda::gather_rows_launch(cuda::gather_rows_call(xs, is, os), 0);
        } catch (const std::runtime_error& error) {
            stopped = std::string(error.what()).find("outside of the rows") != std::string::npos;
        }
        CHECK(stopped);
    }
    CHECK_ERROR("ShapeError", cuda::gather_rows_call(xs, is, make_span(out.data(), DType::U8, {2, 3, 11})));
    CHECK_ERROR("DtypeError", cuda::gather_rows_call(xs, make_span(index.data(), DType::I32, {2, 3}), os));
    CHECK_ERROR("AliasingError", cuda::gather_rows_call(xs, is, make_span(x.data(), DType::U8, {2, 3, 12})));
    CHECK_ERROR("DtypeError", cuda::scatter_rows_call(xs, is, os, make_span(sources.data(), DType::F32, {2, 5})));
    CHECK_ERROR("ShapeError", cuda::scatter_rows_call(xs, is, os, make_span(sources.data(), DType::I32, {2, 4})));
    CHECK_ERROR("AliasingError", cuda::scatter_rows_call(xs, is, os, make_span(x.data(), DType::I32, {2, 5})));
    Span expanded = xs;
    expanded.strides[1] = 0;
    CHECK_ERROR("AliasingError", cuda::scatter_rows_call(expanded, is, os, ss));
}
