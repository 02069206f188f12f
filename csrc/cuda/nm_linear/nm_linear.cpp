#include "cuda/nm_linear/nm_linear.h"

#include <algorithm>
#include <cstring>

#include "core/checked.h"
#include "core/error.h"
#include "cuda/common/linear_call.h"
#include "cuda/nm_linear/byte_octets/layout.h"
#include "cuda/nm_linear/gathered/layout.h"
#include "cuda/nm_linear/gathered/plan.h"
#include "cuda/nm_linear/int8/layout.h"
#include "cuda/nm_linear/octets/layout.h"
#include "cuda/nm_linear/plan.h"
#include "cuda/nm_linear/two_four/layout.h"
#include "cuda/resident.h"
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

int64_t tile_columns(uint32_t layout, int64_t n, int64_t m) {
    switch (layout) {
        case kCudaTwoFourLayout: return kTileColumns;
        case kCudaInt8Layout: return kInt8TileColumns;
        case kCudaOctetLayout: return kOctetKept / n * m;
        case kCudaByteOctetLayout: return byte_octet_columns(static_cast<int>(n), static_cast<int>(m));
        default: return m * kTileGroups;
    }
}

bool is_gathered(uint32_t layout) { return layout == kCudaGathered64Layout || layout == kCudaGathered128Layout; }
int gathered_rows(uint32_t layout) { return layout == kCudaGathered64Layout ? 64 : 128; }

// `layout`: one that the values of the weight allow, or kCudaLayout for the one that its shape and type give.
Sizes sizes_of(core::DType dtype, int64_t rows, int64_t cols, int64_t n, int64_t m, uint32_t layout) {
    formats::nm_check_pattern(n, m);
    constexpr int64_t kMaxRows = int64_t{kWarpsPerBlock} * INT32_MAX;  // the first dimension of a CUDA grid
    if (rows < 0 || cols < 0 || rows > kMaxRows) {
        throw Error("ShapeError", "weight of " + std::to_string(rows) + " x " + std::to_string(cols), "shape",
                    "0 to " + std::to_string(kMaxRows) + " rows");
    }
    Sizes sizes{};
    sizes.layout = kCudaLayout;
    if (is_two_four_bytes(dtype, rows, cols, n, m)) {
        sizes.layout = kCudaInt8Layout;
        sizes.sections = int8_sections(rows, cols);
        return sizes;
    }
    if (is_byte_octets(dtype, rows, cols, n, m)) {
        sizes.layout = kCudaByteOctetLayout;
        sizes.sections = byte_octet_sections(rows, cols, n, m);
        return sizes;
    }
    if (!core::is_float(dtype)) {
        throw Error("UnsupportedError", "no CUDA layout for " + std::string(core::dtype_name(dtype)) + " weights of this pattern or shape",
                    "nm", "a float type, or 2:4, 1:4, 1:8 or 2:8", "use the portable layout");
    }
    if (is_two_four(dtype, rows, cols, n, m)) {
        sizes.layout = kCudaTwoFourLayout;
        sizes.sections = two_four_sections(rows, cols);
        return sizes;
    }
    sizes.kept = formats::nm_kept_per_row(cols, n, m);
    if (is_gathered(layout)) {
        if (core::itemsize(dtype) != 2 || n != 2 || (m != 8 && m != 16)) {
            throw Error("PatternError", "no weight of this pattern and type is gathered", "layout", "2:8 or 2:16, bf16 or f16");
        }
        sizes.layout = layout;
        sizes.sections = gathered_sections(rows, cols, m, gathered_rows(layout));
        return sizes;
    }
    if (is_octets(dtype, rows, cols, n, m)) {
        sizes.layout = kCudaOctetLayout;
        sizes.sections = octet_sections(rows, cols, n, m);
        return sizes;
    }
    sizes.chunks = core::ceil_div(sizes.kept, kChunk);
    sizes.code_bits = position_bits(m);
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
    const Sizes sizes = is_ours ? sizes_of(g.dtype, g.rows, g.cols, g.p0, g.p1, resident.layout) : Sizes{};
    if (!is_ours || resident.layout != sizes.layout) {
        throw Error("ResidentError", "not an N:M weight in the CUDA layout", "resident",
                    "the result of cuda_nm_resident_make");
    }
    const auto* bytes = sizes.sections.bytes;
    if (resident.section_count != sizes.sections.count ||
        !std::equal(bytes, bytes + sizes.sections.count, resident.section_bytes)) {
        throw Error("ResidentError", "section lengths do not fit the header", "resident",
                    "an unmodified resident weight", "make it again from the stored form");
    }
    return resident;
}

// What the arguments of the kernels on tiles have besides; tiles of so many columns.
void fill_tiled(TileArgs& args, int64_t columns) {
    args.row_tiles = core::ceil_div(args.rows, int64_t{kTileRows});
    args.column_tiles = core::ceil_div(args.cols, columns);
}

// Memory for x transposed, where the call has some: of x's type, in the place of a workspace for sums.
void place_columns(GatheredArgs& args, const Span& x, const Span* workspace) {
    if (workspace == nullptr || workspace->dtype != x.dtype) {
        args.plan = plan_of(args, workspace);
        return;
    }
    core::require_shape(*workspace, "workspace", {args.cols, -1});
    core::require_contiguous(*workspace, "workspace");
    core::require_disjoint(x, "x", *workspace, "workspace");
    const int64_t tokens = workspace->shape[1];
    if (args.block_rows != 128 || args.cols == 0 || tokens < 1 || tokens % kUnit != 0 || tokens > kSm90MostGatheredTokens) {
        throw Error("ShapeError", "a workspace for " + std::to_string(tokens) + " transposed tokens", "workspace",
                    "a multiple of 8 for a weight in blocks of 128 rows", "take as many as cuda_nm_transposed_tokens says");
    }
    if (reinterpret_cast<uintptr_t>(workspace->data) % 16 != 0) {
        throw Error("SpanError", "misaligned pointer", "workspace", "a multiple of 16 bytes");
    }
    args.columns = workspace->as<uint16_t>();
    args.column_tokens = tokens;
}

}  // namespace

uint32_t nm_layout(const formats::Stored& stored) {
    formats::check_stored_shapes(stored);
    const formats::Geometry& g = stored.geometry;
    const int block_rows = gathered_block_rows(stored);
    if (block_rows != 0) return block_rows == 64 ? kCudaGathered64Layout : kCudaGathered128Layout;
    const bool has_layout = core::is_float(g.dtype) || is_two_four_bytes(g.dtype, g.rows, g.cols, g.p0, g.p1) ||
                            is_byte_octets(g.dtype, g.rows, g.cols, g.p0, g.p1);
    if (!has_layout) return formats::kStoredLayout;
    const NmSections nm = nm_sections(g.dtype, g.rows, g.cols, g.p0, g.p1);
    return adds_little(g, nm.sections) ? nm.layout : formats::kStoredLayout;
}

NmSections nm_sections(core::DType dtype, int64_t rows, int64_t cols, int64_t n, int64_t m, uint32_t layout) {
    const Sizes sizes = sizes_of(dtype, rows, cols, n, m, layout);
    return {sizes.layout, sizes.sections, tile_columns(sizes.layout, n, m)};
}

int64_t nm_resident_size(core::DType dtype, int64_t rows, int64_t cols, int64_t n, int64_t m, uint32_t layout) {
    return formats::resident_bytes(nm_sections(dtype, rows, cols, n, m, layout).sections);
}

int nm_linear_splits(core::DType dtype, int64_t tokens, int64_t rows, int64_t cols, int64_t n, int64_t m, uint32_t layout,
                     int multiprocessors) {
    const Sizes sizes = sizes_of(dtype, rows, cols, n, m, layout);
    const bool gathered = is_gathered(sizes.layout);
    if (sizes.layout == kCudaLayout || tokens > (gathered ? kMostGatheredDecodeTokens : kMostDecodeTokens)) return 1;
    const int64_t block_rows = gathered ? decode_block_rows(kMostGatheredDecodeTokens) : decode_block_rows(tokens);
    return decode_splits(core::ceil_div(rows, block_rows), core::ceil_div(cols, tile_columns(sizes.layout, n, m)), multiprocessors);
}

int64_t nm_transposed_tokens(int64_t tokens, int64_t rows, int64_t cols, uint32_t layout, int capability, int multiprocessors) {
    if (!is_gathered(layout) || capability != 90) return 0;
    return gathered_column_tokens(tokens, rows, cols, gathered_rows(layout), multiprocessors);
}

void nm_resident_make(const formats::Stored& stored, const Span& span) {
    formats::validate_stored(stored);
    const formats::Geometry& g = stored.geometry;
    const Sizes sizes = sizes_of(g.dtype, g.rows, g.cols, g.p0, g.p1, nm_layout(stored));
    core::require_disjoint(span, "resident", stored.values, "compressed");
    core::require_disjoint(span, "resident", stored.positions, "positions");
    if (core::is_quantised(g.dtype)) core::require_disjoint(span, "resident", stored.scales, "scales");
    const formats::Resident resident =
        formats::create_resident(span, g, sizes.layout, core::Isa::Portable, sizes.sections);
    if (sizes.layout == kCudaTwoFourLayout) return fill_two_four(stored, resident);
    if (sizes.layout == kCudaInt8Layout) return fill_int8(stored, resident);
    if (sizes.layout == kCudaByteOctetLayout) return fill_byte_octets(stored, resident);
    if (sizes.layout == kCudaOctetLayout) return fill_octets(stored, resident);
    if (is_gathered(sizes.layout)) return fill_gathered(stored, gathered_rows(sizes.layout), resident);
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
    const Sizes sizes = sizes_of(g.dtype, g.rows, g.cols, g.p0, g.p1, resident.layout);
    formats::check_stored_shapes(out);
    const formats::Geometry& o = out.geometry;
    if (o.rows != g.rows || o.cols != g.cols || o.p0 != g.p0 || o.p1 != g.p1 || o.dtype != g.dtype) {
        throw Error("ShapeError", "the stored tensors are for another weight", "stored");
    }
    if (sizes.layout == kCudaTwoFourLayout) return read_two_four(resident, out);
    if (sizes.layout == kCudaInt8Layout) return read_int8(resident, out);
    if (sizes.layout == kCudaByteOctetLayout) return read_byte_octets(resident, out);
    if (sizes.layout == kCudaOctetLayout) return read_octets(resident, out);
    if (is_gathered(sizes.layout)) return read_gathered(resident, gathered_rows(sizes.layout), out);
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
                            cpu::Activation activation, const Span* workspace, uint32_t layout) {
    core::require_shape(x, "x", {-1, -1});
    core::require_float(x, "x");
    core::require_shape(out, "out", {x.shape[0], -1});
    const Sizes sizes = sizes_of(x.dtype, out.shape[1], x.shape[1], n, m, layout);
    const LinearArgs common = check_linear_call(x, resident, formats::resident_bytes(sizes.sections), bias, out, activation);
    if (workspace != nullptr) core::require_disjoint(out, "out", *workspace, "workspace");
    const auto section = [&](int index) { return resident.as<uint8_t>() + section_start(sizes.sections, index); };
    if (sizes.layout == kCudaTwoFourLayout) {
        TwoFourArgs args{};
        static_cast<LinearArgs&>(args) = common;
        args.values = section(0);
        fill_tiled(args, tile_columns(sizes.layout, n, m));
        args.metadata = reinterpret_cast<const uint32_t*>(section(1));
        args.plan = plan_of(args, workspace);
        return args;
    }
    if (sizes.layout == kCudaOctetLayout) {
        OctetArgs args{};
        static_cast<LinearArgs&>(args) = common;
        args.values = section(0);
        fill_tiled(args, tile_columns(sizes.layout, n, m));
        args.codes = reinterpret_cast<const uint16_t*>(section(1));
        args.high_codes = sizes.sections.count > 2 ? section(2) : nullptr;
        args.kept = sizes.kept;
        args.n = static_cast<int>(n);
        args.m = static_cast<int>(m);
        args.plan = plan_of(args, workspace);
        return args;
    }
    if (is_gathered(sizes.layout)) {
        GatheredArgs args{};
        static_cast<LinearArgs&>(args) = common;
        args.values = section(0);
        fill_tiled(args, tile_columns(sizes.layout, n, m));
        args.metadata = reinterpret_cast<const uint32_t*>(section(1));
        args.chosen = reinterpret_cast<const uint16_t*>(section(2));
        args.group = static_cast<int>(m);
        args.block_rows = gathered_rows(sizes.layout);
        place_columns(args, x, workspace);
        return args;
    }
    NmLinearArgs args{};
    static_cast<LinearArgs&>(args) = common;
    args.values = section(0);
    args.codes = section(1);
    args.kept = sizes.kept;
    args.chunks = sizes.chunks;
    args.n = static_cast<int>(n);
    args.m = static_cast<int>(m);
    args.code_bits = sizes.code_bits;
    return args;
}

}  // namespace sparsecore::cuda
