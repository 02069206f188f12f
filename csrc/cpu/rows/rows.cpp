#include "cpu/rows/rows.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "core/checked.h"
#include "core/error.h"
#include "core/parallel.h"

namespace sparsecore::cpu {

namespace {

using core::Span;

constexpr int64_t kBytesPerThread = 128 << 10;  // some microseconds of copying

void check_rows(const Span& rows, const char* name, int64_t batch, int64_t number) {
    core::require_shape(rows, name, {batch, number, -1});
    core::require_dtype(rows, name, core::DType::U8);
    if (rows.shape[2] > 1 && rows.strides[2] != 1) {
        throw core::Error("ShapeError", "bytes of a row are " + std::to_string(rows.strides[2]) + " apart", name, "1");
    }
}

void check_index(const Span& index, const char* name, int64_t batch, int threads) {
    core::require_shape(index, name, {batch, -1});
    core::require_dtype(index, name, core::DType::I64);
    if (threads < 1) {
        throw core::Error("InvalidValueError", "threads is " + std::to_string(threads), "threads", "at least 1");
    }
}

uint8_t* row(const Span& rows, int64_t b, int64_t s) {
    return rows.as<uint8_t>() + b * rows.strides[0] + s * rows.strides[1];
}
int64_t entry(const Span& index, int64_t b, int64_t s) {
    return index.as<const int64_t>()[b * index.strides[0] + s * index.strides[1]];
}

}  // namespace

void gather_rows(const Span& x, const Span& index, const Span& out, int threads) {
    check_rows(x, "x", -1, -1);
    const int64_t batch = x.shape[0], rows = x.shape[1], bytes = x.shape[2];
    check_index(index, "index", batch, threads);
    check_rows(out, "out", batch, index.shape[1]);
    core::require_shape(out, "out", {batch, index.shape[1], bytes});
    core::require_disjoint(out, "out", x, "x");
    core::require_disjoint(out, "out", index, "index");
    const int64_t number = index.shape[1];
    for (int64_t b = 0; b < batch; ++b) {
        for (int64_t s = 0; s < number; ++s) {
            const int64_t from = entry(index, b, s);
            if (from >= 0 && from < rows) continue;
            throw core::Error("InvalidValueError", "index[" + std::to_string(b) + ", " + std::to_string(s) + "] is " +
                                                       std::to_string(from),
                              "index", "0 <= index < " + std::to_string(rows) + ", the rows of a sequence");
        }
    }
    if (bytes == 0) return;
    core::parallel_for(0, batch * number, 1 + kBytesPerThread / bytes, threads, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            const int64_t b = i / number, s = i % number;
            std::memcpy(row(out, b, s), row(x, b, entry(index, b, s)), static_cast<size_t>(bytes));
        }
    });
}

void scatter_rows(const Span& out, const Span& positions, const Span& x, int threads) {
    check_rows(out, "out", -1, -1);
    const int64_t batch = out.shape[0], rows = out.shape[1], bytes = out.shape[2];
    check_index(positions, "positions", batch, threads);
    check_rows(x, "x", batch, positions.shape[1]);
    core::require_shape(x, "x", {batch, positions.shape[1], bytes});
    core::require_disjoint(out, "out", x, "x");
    core::require_disjoint(out, "out", positions, "positions");
    if ((batch > 1 && out.strides[0] == 0) || (rows > 1 && out.strides[1] == 0)) {
        throw core::Error("AliasingError", "rows of out share memory", "out", "a tensor that is not expanded");
    }
    const int64_t number = positions.shape[1];
    if (batch == 0 || bytes == 0 || number == 0) return;
    // A thread takes a range of columns of a sequence, whole cache lines, so that later slots overwrite earlier ones.
    const int64_t most = core::ceil_div(core::checked_mul(batch * number, bytes, "x"), kBytesPerThread);
    const auto useful = static_cast<int>(std::min<int64_t>(most, threads));
    const int64_t parts = std::min(core::ceil_div(useful, batch), core::ceil_div(bytes, 64));
    const int64_t width = core::round_up(core::ceil_div(bytes, parts), 64, "columns");
    core::parallel_for(0, batch * parts, 1, useful, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            const int64_t b = i / parts, first = i % parts * width, last = std::min(bytes, first + width);
            for (int64_t s = 0; s < number && first < last; ++s) {
                const int64_t to = entry(positions, b, s);
                if (to < 0 || to >= rows) continue;
                std::memcpy(row(out, b, to) + first, row(x, b, s) + first, static_cast<size_t>(last - first));
            }
        }
    });
}

}  // namespace sparsecore::cpu
