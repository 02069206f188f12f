// Linear layers by the launch functions on the emulated device, in all schedules, against a double reference.
#pragma once

#include "cpu/common/linear_prepare.h"
#include "cuda/emulator/device.h"
#include "cuda/nm_linear/byte_octets/layout.h"
#include "cuda/nm_linear/int8/layout.h"
#include "cuda/resident.h"
#include "linear_problem.h"
#include "on_device.h"

namespace weights {

namespace cuda = sparsecore::cuda;

inline Resident cuda_resident(Weight& weight) {
    Resident resident(cuda::resident_size(weight.stored()));
    cuda::resident_make(weight.stored(), resident.span);
    return resident;
}

// Next to `rows`, so many that a weight of bytes is laid out in tiles.
inline int64_t byte_rows(int64_t rows, int64_t cols, int64_t n = 2, int64_t m = 4) {
    return fitting_rows(rows, [&](int64_t some) {
        return cuda::is_two_four_bytes(DType::I8, some, cols, n, m) || cuda::is_byte_octets(DType::I8, some, cols, n, m);
    });
}

// Activations that wide loads and tensor maps can take: rows start at multiples of 16 bytes.
inline Activations aligned_activations(int64_t tokens, int64_t cols, DType dtype) {
    const int64_t stride = (cols + 7) / 8 * 8;
    Activations x{Memory(tokens * stride * itemsize(dtype) + 16), {}};
    auto* data = reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(x.memory.data()) + 15) / 16 * 16);
    for (int64_t i = 0; i < tokens * stride; ++i) set_value(data, i, dtype, harness::normal());
    x.span = make_span(data, dtype, {tokens, cols});
    x.span.strides[0] = stride;
    x.span.bytes = tokens * stride * itemsize(dtype);
    return x;
}

// What no tensor map can describe: one token for all, or tokens that begin before the last one ends.
inline Activations overlapping_activations(int64_t tokens, int64_t cols, DType dtype) {
    Activations x = aligned_activations(tokens, cols, dtype);
    x.span.strides[0] = harness::pick<int64_t>({0, 8});
    return x;
}

// run(x, resident, bias, out, activation) launches; the bits must be the same in all schedules.
template <class Run>
Memory run_in_all_schedules(LinearProblem& p, Run&& run) {
    const Geometry& g = p.weight.geometry;
    const Resident resident = cuda_resident(p.weight);
    const Span bias = make_span(p.bias.data(), g.dtype, {g.rows});
    Memory first;
    for (const auto schedule : cuda::emulator::kSchedules) {
        cuda::emulator::device().schedule = schedule;
        Memory out(p.tokens * g.rows * itemsize(g.dtype));
        run(p.x.span, resident.span, p.has_bias ? &bias : nullptr, make_span(out.data(), g.dtype, {p.tokens, g.rows}),
            cpu::parse_activation(p.activation));
        CHECK(first.bytes.empty() || first.bytes == out.bytes);
        first = out;
    }
    return first;
}

}  // namespace weights
