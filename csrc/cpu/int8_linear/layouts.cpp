#include "cpu/int8_linear/pairs.h"
#include "cpu/int8_linear/portable.h"
#include "cpu/int8_linear/quads.h"
#include "cpu/stored_layout.h"

namespace sparsecore::cpu {

const std::vector<Layout>& int8_layouts() {
    using formats::Kind;
    static const std::vector<Layout> table = {
        stored_layout(Kind::NM, int8_linear_portable),
        stored_layout(Kind::Bitmask, int8_linear_portable),
        stored_layout(Kind::Block, int8_linear_portable),
#if defined(SPARSECORE_HAVE_AVX2)
        int8_pairs_layout(Kind::NM),
        int8_pairs_layout(Kind::Bitmask),
        int8_pairs_layout(Kind::Block),
#endif
#if defined(SPARSECORE_HAVE_AVX512)
        int8_strips_layout(Kind::NM),
        int8_strips_layout(Kind::Bitmask),
        int8_strips_layout(Kind::Block),
        int8_quads_layout(),
#endif
#if defined(SPARSECORE_HAVE_AMX)
        int8_strips_tiles_layout(Kind::NM),
        int8_strips_tiles_layout(Kind::Bitmask),
        int8_strips_tiles_layout(Kind::Block),
        int8_quads_tiles_layout(),
#endif
    };
    return table;
}

const std::vector<Layout>& fp8_layouts() {
    using formats::Kind;
    static const std::vector<Layout> table = {
        stored_layout(Kind::NM, fp8_linear_portable),
        stored_layout(Kind::Bitmask, fp8_linear_portable),
        stored_layout(Kind::Block, fp8_linear_portable),
    };
    return table;
}

}  // namespace sparsecore::cpu
