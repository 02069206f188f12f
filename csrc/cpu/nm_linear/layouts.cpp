#include "cpu/nm_linear/portable.h"
#include "cpu/stored_layout.h"

namespace sparsecore::cpu {

const std::vector<Layout>& nm_layouts() {
    static const std::vector<Layout> table = {
        stored_layout(formats::Kind::NM, nm_linear_portable),
    };
    return table;
}

}  // namespace sparsecore::cpu
