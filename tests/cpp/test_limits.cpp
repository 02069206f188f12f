#include "core/isa.h"
#include "harness.h"
#include "limits/limits.h"

using namespace sparsecore;

TEST(limits_are_positive_on_every_instruction_set) {
    for (const core::Isa isa : core::available_isas()) {
        core::set_isa(core::isa_name(isa));
        for (const int threads : {1, 3}) {
            CHECK(limits::peak_rate("fp32", threads, 1e-3) > 0);
            for (const char* unit : {"bf16", "int8", "amx_bf16", "amx_int8"}) {
                CHECK(limits::peak_rate(unit, threads, 1e-3) >= 0);
            }
            // One line, a ragged end of the widest loop, and more threads than lines.
            for (const int64_t bytes : {int64_t{64}, int64_t{64 * 2 + 1}, int64_t{64 * 1027}}) {
                CHECK(limits::read_rate(bytes, threads, 1e-3) > 0);
            }
        }
    }
    core::set_isa("auto");
}

TEST(limits_refuse_what_they_cannot_measure) {
    CHECK_ERROR("UnknownNameError", limits::peak_rate("fp64", 1, 1e-3));
    CHECK_ERROR("InvalidValueError", limits::peak_rate("fp32", 0, 1e-3));
    CHECK_ERROR("InvalidValueError", limits::peak_rate("fp32", 1, 0));
    CHECK_ERROR("InvalidValueError", limits::read_rate(63, 1, 1e-3));
    CHECK_ERROR("InvalidValueError", limits::read_rate(int64_t{1} << 40, 1, 1e-3));
    CHECK_ERROR("InvalidValueError", limits::read_rate(64, 1, 1e9));
}
