#include <cstdlib>
#include <limits>

#include "core/buffer.h"
#include "core/checked.h"
#include "core/isa.h"
#include "core/span.h"
#include "harness.h"

using namespace sparsecore::core;

TEST(checked_arithmetic_refuses_overflow) {
    const int64_t most = std::numeric_limits<int64_t>::max();
    CHECK(checked_mul(3, 4, "x") == 12);
    CHECK_ERROR("SpanError", checked_mul(most / 2, 3, "x"));
    CHECK_ERROR("SpanError", checked_add(most, 1, "x"));
    CHECK_ERROR("SpanError", round_up(most, 64, "x"));
    CHECK(ceil_div(0, 5) == 0 && ceil_div(1, 5) == 1 && ceil_div(5, 5) == 1 && ceil_div(6, 5) == 2);
}

TEST(span_must_be_as_long_as_its_shape) {
    float data[12];
    Span span = make_span(data, DType::F32, {3, 4});
    check_span(span, "x");
    span.bytes -= 1;
    CHECK_ERROR("SpanError", check_span(span, "x"));
    span = make_span(data, DType::F32, {3, 4});
    span.strides[0] = 5;  // the last row now ends past the buffer
    CHECK_ERROR("SpanError", check_span(span, "x"));
    span.strides[0] = std::numeric_limits<int64_t>::max() / 2;
    CHECK_ERROR("SpanError", check_span(span, "x"));
    span = make_span(data, DType::F32, {3, 4});
    span.shape[0] = -1;
    CHECK_ERROR("SpanError", check_span(span, "x"));
    span = make_span(nullptr, DType::F32, {3});
    CHECK_ERROR("SpanError", check_span(span, "x"));
    span = make_span(reinterpret_cast<char*>(data) + 1, DType::F32, {2});
    CHECK_ERROR("SpanError", check_span(span, "x"));
    check_span(make_span(nullptr, DType::F32, {0, 7}), "x");  // nothing to point at
}

TEST(span_shape_and_type_errors) {
    float data[12];
    const Span span = make_span(data, DType::F32, {3, 4});
    require_shape(span, "x", {-1, 4});
    CHECK_ERROR("ShapeError", require_shape(span, "x", {4, 3}));
    CHECK_ERROR("ShapeError", require_shape(span, "x", {12}));
    CHECK_ERROR("DtypeError", require_dtype(span, "x", DType::BF16));
    CHECK_ERROR("DtypeError", require_float(make_span(data, DType::I32, {3}), "x"));
    Span transposed = span;
    std::swap(transposed.shape[0], transposed.shape[1]);
    std::swap(transposed.strides[0], transposed.strides[1]);
    CHECK_ERROR("ShapeError", require_contiguous(transposed, "x"));
    transposed.shape[0] = 0;
    require_contiguous(transposed, "x");
    CHECK_ERROR("AliasingError",
                require_disjoint(make_span(data, DType::F32, {6}), "out", make_span(data + 5, DType::F32, {6}), "x"));
    require_disjoint(make_span(data, DType::F32, {6}), "out", make_span(data + 6, DType::F32, {6}), "x");
}

TEST(buffer_is_aligned_and_grows) {
    AlignedBuffer buffer;
    for (int64_t bytes : {1, 63, 64, 65, 1000, 10}) {
        const int64_t before = buffer.bytes();
        CHECK(reinterpret_cast<uintptr_t>(buffer.reserve(bytes)) % kAlignment == 0);
        CHECK(buffer.bytes() >= bytes && buffer.bytes() >= before);
    }
}

TEST(isa_can_be_chosen_by_name_only_where_available) {
    for (Isa isa : available_isas()) {
        set_isa(isa_name(isa));
        CHECK(runtime_isa() == isa);
    }
    CHECK_ERROR("IsaError", set_isa("sse9"));
    const Isa before = runtime_isa();
    for (Isa isa : {Isa::Avx2, Isa::Avx512, Isa::Amx}) {
        if (!isa_available(isa)) CHECK_ERROR("IsaError", set_isa(isa_name(isa)));
    }
    CHECK(runtime_isa() == before);
    setenv("SPARSECORE_FORCE_ISA", "portable", 1);
    set_isa("auto");
    CHECK(runtime_isa() == Isa::Portable);
    setenv("SPARSECORE_FORCE_ISA", "avx1024", 1);
    CHECK_ERROR("IsaError", set_isa("auto"));
    unsetenv("SPARSECORE_FORCE_ISA");
    set_isa("auto");
}
