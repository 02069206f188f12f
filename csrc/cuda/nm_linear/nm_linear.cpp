#include "cuda/nm_linear/nm_linear.h"

#include <cstring>

#include "core/checked.h"
#include "core/error.h"
#include "cuda/nm_linear/two_four/layout.h"
#include "formats/bits.h"
#include "formats/nm.h"
#include "formats/resident.h"

namespace sparsecore::cuda {

namespace {

using core::Error;
using core::Span;

struct Sizes {
    uint32_t layout;
    int64_t kept, chunks;
    int code_bits;
    formats::Sections sections;
};

int code_bits_of(int64_t m) { return m <= 2 ? 1 : m <= 4 ? 2 : m <= 16 ? 4 : 8; }

Sizes sizes_of(core::DType dtype, int64_t rows, int64_t cols, int64_t n, int64_t m) {
    formats::nm_check_pattern(n, m);
    if (!core::is_float(dtype)) throw Error("DtypeError", "unsupported element type", "dtype", "f32, f16 or bf16");
    constexpr int64_t kMaxRows = int64_t{kWarpsPerBlock} * INT32_MAX;  // the first dimension of a CUDA grid
    if (rows < 0 || cols < 0 || rows > kMaxRows) {
        throw Error("ShapeError", "weight of " + std::to_string(rows) + " x " + std::to_string(cols), "shape",
                    "0 to " + std::to_string(kMaxRows) + " rows");
    }
    Sizes sizes{};
    sizes.layout = kCudaLayout;
    if (is_two_four(dtype, n, m)) {
        sizes.layout = kCudaTwoFourLayout;
        sizes.sections = two_four_sections(rows, cols);
        return sizes;
    }
    sizes.kept = formats::nm_kept_per_row(cols, n, m);
    sizes.chunks = core::ceil_div(sizes.kept, kChunk);
    sizes.code_bits = code_bits_of(m);
    const int64_t chunks = core::checked_mul(rows, sizes.chunks, "resident weight");
    sizes.sections.count = 2;
    sizes.sections.bytes[0] = core::checked_mul(chunks, kChunk * core::itemsize(dtype), "resident weight");
    sizes.sections.bytes[1] = core::checked_mul(chunks, sizes.code_bits, "resident weight");
    return sizes;
}

// Position within its group of every kept value of one row, from either stored form.
template <class Body>
void for_positions(const formats::Stored& stored, int64_t row, int64_t kept, Body&& body) {
    const formats::Geometry& g = stored.geometry;
    const auto* bytes = stored.positions.as<const uint8_t>() + row * stored.positions.shape[1];
    if (g.codes) {
        const int bits = formats::nm_code_bits(g.p1);
        for (int64_t i = 0; i < kept; ++i) body(i, formats::read_bits(bytes, i * bits, bits));
        return;
    }
    for (int64_t column = 0, i = 0; column < g.cols; ++column) {
        if (formats::test_bit(bytes, column)) body(i++, static_cast<unsigned>(column % g.p1));
    }
}

formats::Resident open(const Span& span) {
    const formats::Resident resident = formats::open_resident(span);
    const formats::Geometry& g = resident.geometry;
    const bool is_ours = g.kind == formats::Kind::NM;
    const Sizes sizes = is_ours ? sizes_of(g.dtype, g.rows, g.cols, g.p0, g.p1) : Sizes{};
    if (!is_ours || resident.layout != sizes.layout) {
        throw Error("ResidentError", "not an N:M weight in the CUDA layout", "resident",
                    "the result of cuda_nm_resident_make");
    }
    if (resident.section_count != 2 || resident.section_bytes[0] != sizes.sections.bytes[0] ||
        resident.section_bytes[1] != sizes.sections.bytes[1]) {
        throw Error("ResidentError", "section lengths do not fit the header", "resident",
                    "an unmodified resident weight", "make it again from the stored form");
    }
    return resident;
}

// What the arguments of both kernels have.
template <class Args>
void fill_common(Args& args, const Span& x, const Span& resident, const Span* bias, const Span& out,
                 cpu::Activation activation, const Sizes& sizes) {
    args.x = x.data;
    args.values = resident.as<uint8_t>() + section_start(sizes.sections, 0);
    args.out = out.data;
    args.x_token_stride = x.strides[0];
    args.x_column_stride = x.strides[1];
    args.out_token_stride = out.strides[0];
    args.out_row_stride = out.strides[1];
    if (bias != nullptr) {
        args.bias = bias->data;
        args.bias_stride = bias->strides[0];
    }
    args.tokens = x.shape[0];
    args.rows = out.shape[1];
    args.cols = x.shape[1];
    args.activation = activation;
}

}  // namespace

int64_t nm_resident_size(core::DType dtype, int64_t rows, int64_t cols, int64_t n, int64_t m) {
    return formats::resident_bytes(sizes_of(dtype, rows, cols, n, m).sections);
}

void nm_resident_make(const formats::Stored& stored, const Span& span) {
    formats::validate_stored(stored);
    const formats::Geometry& g = stored.geometry;
    const Sizes sizes = sizes_of(g.dtype, g.rows, g.cols, g.p0, g.p1);
    core::require_disjoint(span, "resident", stored.values, "compressed");
    core::require_disjoint(span, "resident", stored.positions, "positions");
    const formats::Resident resident =
        formats::create_resident(span, g, sizes.layout, core::Isa::Portable, sizes.sections);
    if (sizes.layout == kCudaTwoFourLayout) return fill_two_four(stored, resident);
    const int64_t value_bytes = sizes.kept * core::itemsize(g.dtype);
    for (int64_t row = 0; row < g.rows && sizes.kept > 0; ++row) {
        std::memcpy(resident.sections[0] + row * sizes.chunks * kChunk * core::itemsize(g.dtype),
                    stored.values.as<const uint8_t>() + row * value_bytes, static_cast<size_t>(value_bytes));
        uint8_t* codes = resident.sections[1] + row * sizes.chunks * sizes.code_bits;
        for_positions(stored, row, sizes.kept, [&](int64_t i, unsigned position) {
            formats::write_bits(codes, i * sizes.code_bits, sizes.code_bits, position);
        });
    }
}

void nm_resident_to_stored(const Span& span, const formats::Stored& out) {
    const formats::Resident resident = open(span);
    const formats::Geometry& g = resident.geometry;
    const Sizes sizes = sizes_of(g.dtype, g.rows, g.cols, g.p0, g.p1);
    formats::check_stored_shapes(out);
    const formats::Geometry& o = out.geometry;
    if (o.rows != g.rows || o.cols != g.cols || o.p0 != g.p0 || o.p1 != g.p1 || o.dtype != g.dtype) {
        throw Error("ShapeError", "the stored tensors are for another weight", "stored");
    }
    if (sizes.layout == kCudaTwoFourLayout) return read_two_four(resident, out);
    const int64_t value_bytes = sizes.kept * core::itemsize(g.dtype), position_bytes = out.positions.shape[1];
    for (int64_t row = 0; row < g.rows && sizes.kept > 0; ++row) {
        std::memcpy(out.values.as<uint8_t>() + row * value_bytes,
                    resident.sections[0] + row * sizes.chunks * kChunk * core::itemsize(g.dtype),
                    static_cast<size_t>(value_bytes));
        uint8_t* positions = out.positions.as<uint8_t>() + row * position_bytes;
        std::memset(positions, 0, static_cast<size_t>(position_bytes));
        const uint8_t* codes = resident.sections[1] + row * sizes.chunks * sizes.code_bits;
        for (int64_t i = 0; i < sizes.kept; ++i) {
            const unsigned code = formats::read_bits(codes, i * sizes.code_bits, sizes.code_bits);
            const int64_t column = i / g.p0 * g.p1 + code;
            if (code >= g.p1 || column >= g.cols) {
                throw Error("ResidentError", "position out of range", "row " + std::to_string(row));
            }
            if (o.codes) {
                const int bits = formats::nm_code_bits(g.p1);
                formats::write_bits(positions, i * bits, bits, code);
            } else {
                formats::set_bit(positions, column);
            }
        }
    }
}

NmLinearCall nm_linear_call(const Span& x, const Span& resident, int64_t n, int64_t m, const Span* bias, const Span& out,
                            cpu::Activation activation) {
    core::require_shape(x, "x", {-1, -1});
    core::require_float(x, "x");
    core::require_shape(out, "out", {x.shape[0], -1});
    core::require_dtype(out, "out", x.dtype);
    core::require_disjoint(out, "out", x, "x");
    const int64_t rows = out.shape[1], cols = x.shape[1];
    const Sizes sizes = sizes_of(x.dtype, rows, cols, n, m);
    core::require_dtype(resident, "resident", core::DType::U8);
    core::require_shape(resident, "resident", {formats::resident_bytes(sizes.sections)});
    core::require_contiguous(resident, "resident");
    core::require_disjoint(out, "out", resident, "resident");
    if (reinterpret_cast<uintptr_t>(resident.data) % 16 != 0) {
        throw Error("SpanError", "misaligned pointer", "resident", "a multiple of 16 bytes");
    }
    if (bias != nullptr) {
        core::require_shape(*bias, "bias", {rows});
        core::require_dtype(*bias, "bias", x.dtype);
        core::require_disjoint(out, "out", *bias, "bias");
    }
    if (sizes.layout == kCudaTwoFourLayout) {
        TwoFourArgs args{};
        fill_common(args, x, resident, bias, out, activation, sizes);
        args.metadata = reinterpret_cast<const uint32_t*>(resident.as<uint8_t>() + section_start(sizes.sections, 1));
        args.row_tiles = core::ceil_div(rows, int64_t{kTileRows});
        args.column_tiles = core::ceil_div(cols, int64_t{kTileColumns});
        args.x_in_units = x.strides[1] == 1 && x.strides[0] % 8 == 0 && reinterpret_cast<uintptr_t>(x.data) % 16 == 0;
        args.out_in_pairs =
            out.strides[1] == 1 && out.strides[0] % 2 == 0 && reinterpret_cast<uintptr_t>(out.data) % 4 == 0;
        return args;
    }
    NmLinearArgs args{};
    fill_common(args, x, resident, bias, out, activation, sizes);
    args.codes = resident.as<uint8_t>() + section_start(sizes.sections, 1);
    args.kept = sizes.kept;
    args.chunks = sizes.chunks;
    args.n = static_cast<int>(n);
    args.m = static_cast<int>(m);
    args.code_bits = sizes.code_bits;
    return args;
}

}  // namespace sparsecore::cuda
