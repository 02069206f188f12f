#include "cpu/linear.h"

#include "core/error.h"
#include "cpu/common/linear_prepare.h"
#include "cpu/layout.h"

namespace sparsecore::cpu {

void packed_linear(const core::Span& x, const core::Span& resident, const core::Span* bias, const core::Span& out,
                   const std::string& activation, int threads) {
    const formats::Resident weight = resident_open(resident);
    const formats::Geometry& g = weight.geometry;
    const Layout& layout = layout_of(weight);
    if (static_cast<uint32_t>(layout.isa) > static_cast<uint32_t>(core::runtime_isa())) {
        throw core::Error("ResidentError", std::string("resident weight is laid out for ") + core::isa_name(layout.isa),
                          "resident", std::string("a layout for ") + core::isa_name(core::runtime_isa()),
                          "make it again from the stored form");
    }
    core::AlignedBuffer bias_storage;
    const LinearCall call =
        check_linear(x, bias, out, g.dtype, g.rows, g.cols, activation, threads, bias_storage);
    require_disjoint(out, "out", resident, "resident");
    if (call.tokens > 0 && call.rows > 0) layout.linear(weight, call);
}

}  // namespace sparsecore::cpu
