// Kinds whose kernels are not built into this library: they can be held and converted, not run.
#include "core/error.h"
#include "cpu/stored_layout.h"

namespace sparsecore::cpu {

namespace {

void no_kernel(const formats::Resident& weight, const LinearCall&) {
    throw core::Error("UnsupportedError", "no linear kernel for this kind of weight", "resident",
                      formats::kind_name(weight.geometry.kind));
}

}  // namespace

const std::vector<Layout>& bitmask_layouts() {
    static const std::vector<Layout> table = {stored_layout(formats::Kind::Bitmask, no_kernel)};
    return table;
}

const std::vector<Layout>& block_layouts() {
    static const std::vector<Layout> table = {stored_layout(formats::Kind::Block, no_kernel)};
    return table;
}

}  // namespace sparsecore::cpu
