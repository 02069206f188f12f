// An int8 N:M weight on the CUDA kernels' own source, by the emulator, bit for bit against the rule of docs/formats.md.
#pragma once

#include "cpu/common/linear_prepare.h"
#include "cuda/emulator/launch.h"
#include "cuda/nm_linear/int8/int8_linear.h"
#include "cuda/nm_linear/int8/quantise.h"
#include "cuda/nm_linear/nm_linear.h"
#include "cuda_problem.h"

namespace weights {

using cuda::emulator::Schedule;

inline unsigned blocks(int64_t count, int64_t of_each) { return static_cast<unsigned>((count + of_each - 1) / of_each); }

template <class T>
void quantise(const cuda::Int8Args& args, Schedule schedule) {
    cuda::emulator::launch({{2}, cuda::kQuantiseThreads, sizeof(cuda::QuantiseShared)}, schedule,
                           [&] { cuda::quantise_tokens<T>(args); });
}

inline void quantise(const cuda::Int8Args& args, DType dtype, Schedule schedule) {
    if (dtype == DType::F32) return quantise<cuda::F32>(args, schedule);
    if (dtype == DType::F16) return quantise<cuda::F16>(args, schedule);
    quantise<cuda::BF16>(args, schedule);
}

// The rule of docs/formats.md, written with the rounding of the C library; all zeros and the scale NaN where x is not finite.
inline float int8_wanted(const Span& x, const Weight& weight, int64_t token, int64_t row, float bias) {
    const int64_t cols = weight.geometry.cols;
    const auto at = [&](int64_t c) { return core::load_float(x.data, token * x.strides[0] + c * x.strides[1], x.dtype); };
    float amax = 0.0f;
    for (int64_t c = 0; c < cols; ++c) amax = std::isfinite(at(c)) ? std::fmax(amax, std::fabs(at(c))) : INFINITY;
    if (std::isinf(amax)) return NAN;
    const float scale = amax / 127.0f == 0.0f ? 1.0f : amax / 127.0f;
    const auto* dense = reinterpret_cast<const int8_t*>(weight.dense.bytes.data());
    int64_t sum = 0;
    for (int64_t c = 0; c < cols; ++c) sum += dense[row * cols + c] * std::clamp(std::lrint(at(c) / scale), -127L, 127L);
    return static_cast<float>(sum) * (scale * reinterpret_cast<const float*>(weight.scales.bytes.data())[row]) + bias;
}

// run(arguments, dtype of x, schedule) multiplies what was quantised: right to the last bit, in every schedule.
template <class Run>
void check_int8(int64_t n, int64_t m, int64_t about_rows, int64_t cols, int64_t tokens, const Run& run) {
    const int64_t rows = byte_rows(about_rows, cols, n, m);
    const DType dtype = random_float_type(), bias_dtype = harness::pick<DType>({dtype, DType::F32});
    Weight weight = random_nm(rows, cols, n, m, DType::I8, harness::integer(0, 1) == 1);
    Activations x = harness::integer(0, 1) == 1 ? random_activations(tokens, cols, dtype) : aligned_activations(tokens, cols, dtype);
    const int64_t spoiled = harness::integer(-2, tokens - 1);
    if (spoiled >= 0 && cols > 0) set_value(x.span.data, spoiled * x.span.strides[0], dtype, harness::pick<float>({NAN, INFINITY}));
    Memory bias(rows * itemsize(bias_dtype)), out(tokens * rows * itemsize(dtype)), first;
    for (int64_t r = 0; r < rows; ++r) set_value(bias.data(), r, bias_dtype, harness::normal());
    Resident resident(cuda::nm_resident_size(DType::I8, rows, cols, n, m));
    cuda::nm_resident_make(weight.stored(), resident.span);
    const int64_t stride = cuda::quantised_stride(cols);
    core::AlignedBuffer q(tokens * stride + 64);
    std::vector<float> x_scales(static_cast<size_t>(tokens));
    const Span bias_span = make_span(bias.data(), bias_dtype, {rows}), q_span = make_span(q.as<void>(), DType::I8, {tokens, stride});
    const cuda::Int8Args args =
        cuda::int8_linear_call(x.span, resident.span, n, m, &bias_span, make_span(out.data(), dtype, {tokens, rows}), cpu::Activation::None,
                               q_span, make_span(x_scales.data(), DType::F32, {tokens}));
    for (const Schedule schedule : cuda::emulator::kSchedules) {
        quantise(args, dtype, schedule);
        run(args, dtype, schedule);
        if (first.bytes.empty()) first = out;
        CHECK(first.bytes == out.bytes);
    }
    for (int64_t i = 0; i < tokens * rows; ++i) {
        Memory rounded(4);
        core::store_float(rounded.data(), 0, dtype, int8_wanted(x.span, weight, i / rows, i % rows, core::load_float(bias.data(), i % rows, bias_dtype)));
        const float expected = core::load_float(rounded.data(), 0, dtype), got = core::load_float(out.data(), i, dtype);
        CHECK(std::isnan(expected) ? std::isnan(got) : got == expected);
    }
}

}  // namespace weights
