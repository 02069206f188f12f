#include <pybind11/stl.h>

#include <map>
#include <optional>

#include "bindings/bind.h"
#include "bindings/span_caster.h"
#include "cpu/layout.h"
#include "cpu/linear.h"
#include "cuda/layouts.h"
#include "cuda/resident.h"

namespace sparsecore::bindings {

namespace py = pybind11;
using namespace py::literals;
using core::Span;
using formats::Geometry;
using formats::Stored;
using SpanMap = std::map<std::string, Span>;

namespace {

constexpr const char* kCuda = "cuda";  // in the place of an instruction set: the layouts of the GPU kernels

Span part(const SpanMap& spans, const char* name) {
    if (name == nullptr) return {};
    const auto found = spans.find(name);
    if (found == spans.end()) {
        throw core::Error("InvalidValueError", std::string("stored weight has no tensor '") + name + "'", "stored");
    }
    return found->second;
}

// Tensors of other names (shape, nm, block) may be in the dictionary; they are not looked at.
Stored stored_from(const std::string& kind, int64_t rows, int64_t cols, int64_t p0, int64_t p1, const SpanMap& spans) {
    Stored stored;
    Geometry& g = stored.geometry;
    g.kind = formats::parse_kind(kind);
    g.codes = g.kind == formats::Kind::NM && spans.count("codes") != 0;
    stored.values = part(spans, formats::part_names(g).values);
    g.dtype = stored.values.dtype;
    const formats::PartNames names = formats::part_names(g);
    stored.positions = part(spans, names.positions);
    stored.offsets = part(spans, names.offsets);
    stored.scales = part(spans, names.scales);
    g.rows = rows;
    g.cols = cols;
    g.p0 = p0;
    g.p1 = p1;
    g.kept = g.kind == formats::Kind::NM ? element_count(stored.values) : stored.values.shape[0];
    return stored;
}

int64_t size(const std::string& kind, int64_t rows, int64_t cols, int64_t p0, int64_t p1, const SpanMap& stored,
             const std::string& isa) {
    const Stored weight = stored_from(kind, rows, cols, p0, p1, stored);
    return isa == kCuda ? cuda::resident_size(weight) : cpu::resident_size(weight, core::parse_isa(isa));
}

void make(const std::string& kind, int64_t rows, int64_t cols, int64_t p0, int64_t p1, const SpanMap& stored,
          const std::string& isa, const Span& out) {
    const Stored weight = stored_from(kind, rows, cols, p0, p1, stored);
    isa == kCuda ? cuda::resident_make(weight, out) : cpu::resident_make(weight, core::parse_isa(isa), out);
}

py::dict info(const Span& span) {
    const formats::Resident r = formats::open_resident(span);
    const Geometry& g = r.geometry;
    const char* layout = cuda::is_cuda_layout(r) ? kCuda : cpu::layout_of(r).name;
    return py::dict("kind"_a = formats::kind_name(g.kind), "layout"_a = layout,
                    "layout_id"_a = r.layout, "isa"_a = core::isa_name(r.isa), "dtype"_a = core::dtype_name(g.dtype),
                    "rows"_a = g.rows, "cols"_a = g.cols, "p0"_a = g.p0, "p1"_a = g.p1, "kept"_a = g.kept,
                    "codes"_a = g.codes, "total_bytes"_a = r.total_bytes);
}

void validate(const Span& resident) {
    const bool is_cuda = cuda::is_cuda_layout(formats::open_resident(resident));
    is_cuda ? cuda::resident_validate(resident) : cpu::resident_validate(resident);
}

void to_stored(const Span& resident, const SpanMap& out) {
    const formats::Resident opened = formats::open_resident(resident);
    const bool is_cuda = cuda::is_cuda_layout(opened);
    Stored stored;
    stored.geometry = is_cuda ? opened.geometry : cpu::resident_open(resident).geometry;
    const formats::PartNames names = formats::part_names(stored.geometry);
    stored.values = part(out, names.values);
    stored.positions = part(out, names.positions);
    stored.offsets = part(out, names.offsets);
    stored.scales = part(out, names.scales);
    is_cuda ? cuda::resident_to_stored(resident, stored) : cpu::resident_to_stored(resident, stored);
}

void linear(const Span& x, const Span& resident, const std::optional<Span>& bias, const Span& out,
            const std::string& activation, int threads) {
    cpu::packed_linear(core::as_matrix(x, "x"), resident, bias ? &*bias : nullptr, core::as_matrix(out, "out"),
                       activation, threads);
}

}  // namespace

void bind_resident(py::module_& m) {
    py::dict gathered;  // rows of a block, by layout
    gathered[py::int_(cuda::kCudaGathered64Layout)] = 64;
    gathered[py::int_(cuda::kCudaGathered128Layout)] = 128;
    m.attr("CUDA_GATHERED_LAYOUTS") = gathered;
    m.def("resident_size", &size, "kind"_a, "rows"_a, "cols"_a, "p0"_a, "p1"_a, "stored"_a, "isa"_a, ReleaseGil(),
          "Bytes of the resident form of a stored weight.");
    m.def("resident_make", &make, "kind"_a, "rows"_a, "cols"_a, "p0"_a, "p1"_a, "stored"_a, "isa"_a, "out"_a,
          ReleaseGil(), "Validate a stored weight in full and lay it out in `out`.");
    m.def("resident_info", &info, "resident"_a, "The header as a dictionary.");
    m.def("resident_validate", &validate, "resident"_a, ReleaseGil(), "Check every position.");
    m.def("resident_to_stored", &to_stored, "resident"_a, "stored_out"_a, ReleaseGil());
    m.def("packed_linear", &linear, "x"_a, "resident"_a, "bias"_a.none(true), "out"_a, "activation"_a, "threads"_a,
          ReleaseGil(), "out = activation(x W^T + bias); x [tokens, in], out [tokens, out], or more leading dimensions without gaps.");
}

}  // namespace sparsecore::bindings
