// A linear problem on the CUDA kernels' own source, by the emulator in all its schedules.
#pragma once

#include "cpu/common/linear_prepare.h"
#include "cuda/emulator/launch.h"
#include "cuda/nm_linear/nm_linear.h"
#include "linear_problem.h"

namespace weights {

namespace cuda = sparsecore::cuda;
using cuda::emulator::Schedule;

inline unsigned blocks(int64_t count, int64_t of_each) { return static_cast<unsigned>((count + of_each - 1) / of_each); }
// Fewer blocks than there is work: the kernels loop over the rest.
inline unsigned at_most_two(unsigned count) { return count > 2 ? 2 : count; }

// The result of run(arguments), where the weight has the layout of these arguments.
template <class Args, class Run>
Memory run_emulated(LinearProblem& p, const Run& run) {
    const Geometry& g = p.weight.geometry;
    const uint32_t layout = cuda::nm_layout(p.weight.stored());
    Resident resident(cuda::nm_resident_size(g.dtype, g.rows, g.cols, g.p0, g.p1, layout));
    cuda::nm_resident_make(p.weight.stored(), resident.span);
    Memory out(p.tokens * g.rows * itemsize(g.dtype));
    const Span bias = make_span(p.bias.data(), g.dtype, {g.rows});
    const Span out_span = make_span(out.data(), g.dtype, {p.tokens, g.rows});
    run(std::get<Args>(cuda::nm_linear_call(p.x.span, resident.span, g.p0, g.p1, p.has_bias ? &bias : nullptr, out_span,
                                            cpu::parse_activation(p.activation), nullptr, layout)));
    return out;
}

// run(arguments, schedule) has the reference's result, and the same bits in every schedule.
template <class Args, class Run>
void check_in_all_schedules(LinearProblem& p, const Run& run) {
    const auto result = [&](Schedule schedule) {
        return run_emulated<Args>(p, [&](const Args& args) { run(args, schedule); });
    };
    Memory first = result(cuda::emulator::kSchedules[0]);
    compare_linear(p, first);
    for (const Schedule schedule : cuda::emulator::kSchedules) CHECK(result(schedule).bytes == first.bytes);
}

}  // namespace weights
