// int8 2:4 weights: the product of a warp against its definition, the kernels bit for bit against the rule, the layout.
#include "core/buffer.h"
#include "cpu/common/linear_prepare.h"
#include "cuda/emulator/launch.h"
#include "cuda/nm_linear/int8/int8_linear.h"
#include "cuda/nm_linear/int8/quantise.h"
#include "cuda/nm_linear/int8/sm80_gemm.h"
#include "cuda/nm_linear/nm_linear.h"
#include "linear_problem.h"

using namespace sparsecore;
using namespace weights;
using cuda::emulator::Schedule;

namespace {

unsigned blocks(int64_t count, int64_t of_each) { return static_cast<unsigned>((count + of_each - 1) / of_each); }

template <class T, int kTokens>
void emulate(const cuda::Int8Args& args, Schedule schedule) {
    cuda::emulator::launch({{2}, cuda::kQuantiseThreads, sizeof(cuda::QuantiseShared)}, schedule,
                           [&] { cuda::quantise_tokens<T>(args); });
    const unsigned y = blocks(args.call.tokens, kTokens);
    cuda::emulator::launch({{blocks(args.call.rows, cuda::kInt8Rows), y > 2 ? 2 : y},
                            cuda::kGemmThreads,
                            sizeof(typename cuda::Int8Shape<kTokens>::Shared)},
                           schedule, [&] { cuda::sm80_int8_gemm<T, kTokens>(args); });
}

template <int kTokens>
void emulate(const cuda::Int8Args& args, DType dtype, Schedule schedule) {
    if (dtype == DType::F32) return emulate<cuda::F32, kTokens>(args, schedule);
    if (dtype == DType::F16) return emulate<cuda::F16, kTokens>(args, schedule);
    emulate<cuda::BF16, kTokens>(args, schedule);
}

// The rule of docs/formats.md, written with the rounding of the C library; all zeros and the scale NaN where x is not finite.
float wanted(const Span& x, const Weight& weight, int64_t token, int64_t row, float bias) {
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

template <int kTokens>
void check(int64_t rows, int64_t cols, int64_t tokens) {
    const DType dtype = random_float_type(), bias_dtype = harness::pick<DType>({dtype, DType::F32});
    Weight weight = random_nm(rows, cols, 2, 4, DType::I8, harness::integer(0, 1) == 1);
    Activations x = random_activations(tokens, cols, dtype);
    const int64_t spoiled = harness::integer(-2, tokens - 1);
    if (spoiled >= 0 && cols > 0) set_value(x.span.data, spoiled * x.span.strides[0], dtype, harness::pick<float>({NAN, INFINITY}));
    Memory bias(rows * itemsize(bias_dtype)), out(tokens * rows * itemsize(dtype)), first;
    for (int64_t r = 0; r < rows; ++r) set_value(bias.data(), r, bias_dtype, harness::normal());
    Resident resident(cuda::nm_resident_size(DType::I8, rows, cols, 2, 4));
    cuda::nm_resident_make(weight.stored(), resident.span);
    const int64_t stride = cuda::quantised_stride(cols);
    core::AlignedBuffer q(tokens * stride + 64);
    std::vector<float> x_scales(static_cast<size_t>(tokens));
    const Span bias_span = make_span(bias.data(), bias_dtype, {rows}), q_span = make_span(q.as<void>(), DType::I8, {tokens, stride});
    const cuda::Int8Args args =
        cuda::int8_linear_call(x.span, resident.span, &bias_span, make_span(out.data(), dtype, {tokens, rows}), cpu::Activation::None,
                               q_span, make_span(x_scales.data(), DType::F32, {tokens}));
    for (const Schedule schedule : cuda::emulator::kSchedules) {
        emulate<kTokens>(args, dtype, schedule);
        if (first.bytes.empty()) first = out;
        CHECK(first.bytes == out.bytes);
    }
    for (int64_t i = 0; i < tokens * rows; ++i) {
        Memory rounded(4);
        core::store_float(rounded.data(), 0, dtype, wanted(x.span, weight, i / rows, i % rows, core::load_float(bias.data(), i % rows, bias_dtype)));
        const float expected = core::load_float(rounded.data(), 0, dtype), got = core::load_float(out.data(), i, dtype);
        CHECK(std::isnan(expected) ? std::isnan(got) : got == expected);
    }
}

}  // namespace

TEST(emulator_multiplies_sparse_bytes) {
    int kept[16][32], place[16][32], whole[16][64] = {}, b[64][8];
    for (auto& row : b) {
        for (int& value : row) value = static_cast<int>(harness::integer(-128, 127));
    }
    for (int row = 0; row < 16; ++row) {
        for (int i = 0; i < 32; i += 2) {
            place[row][i] = static_cast<int>(harness::integer(0, 2));
            place[row][i + 1] = static_cast<int>(harness::integer(place[row][i] + 1, 3));
            for (int j = i; j < i + 2; ++j) {
                kept[row][j] = static_cast<int>(harness::integer(-128, 127));
                whole[row][i * 2 + place[row][j]] = kept[row][j];
            }
        }
    }
    const auto word = [](const auto& element) {
        std::uint32_t bits = 0;
        for (int i = 0; i < 4; ++i) bits |= (static_cast<std::uint32_t>(element(i)) & 0xff) << (8 * i);
        return bits;
    };
    cuda::emulator::launch({}, {}, [&] {
        const int g = static_cast<int>(cuda::thread_x()) / 4, t = static_cast<int>(cuda::thread_x()) % 4;
        std::uint32_t fa[4], fb[4], metadata = 0;
        for (int r = 0; r < 4; ++r) {
            fa[r] = word([&](int i) { return kept[g + r % 2 * 8][r / 2 * 16 + 4 * t + i]; });
            fb[r] = word([&](int i) { return b[16 * r + 4 * t + i][g]; });
        }
        for (int i = 0; i < 16; ++i) metadata |= static_cast<std::uint32_t>(place[g + t % 2 * 8][t / 2 * 16 + i]) << (2 * i);
        std::int32_t d[4] = {1, 2, 3, 4};
        cuda::multiply_sparse_bytes(d, fa, fb, metadata);
        for (int r = 0; r < 4; ++r) {
            std::int32_t sum = r + 1;
            for (int k = 0; k < 64; ++k) sum += whole[g + r / 2 * 8][k] * b[k][2 * t + r % 2];
            CHECK(d[r] == sum);
        }
    });
}

TEST(cuda_int8_linear_is_exact_in_the_emulator) {
    for (int round = 0; round < 4; ++round) {
        const int64_t rows = harness::pick<int64_t>({1, 65, 128, 130}), cols = harness::pick<int64_t>({0, 3, 100, 128, 515});
        check<32>(rows, cols, harness::pick<int64_t>({1, 7, 32, 70}));
    }
    check<128>(harness::pick<int64_t>({1, 65}), harness::pick<int64_t>({100, 600}), harness::pick<int64_t>({17, 130}));
}

TEST(cuda_int8_weights_come_back) {
    for (int round = 0; round < 20; ++round) {
        const int64_t rows = random_size(), cols = random_size();
        Weight weight = random_nm(rows, cols, 2, 4, DType::I8, harness::integer(0, 1) == 1), back = with_storage(weight.geometry, Memory());
        Resident resident(cuda::nm_resident_size(DType::I8, rows, cols, 2, 4));
        cuda::nm_resident_make(weight.stored(), resident.span);
        cuda::nm_resident_to_stored(resident.span, back.stored());
        CHECK(back.values.bytes == weight.values.bytes && back.positions.bytes == weight.positions.bytes);
        CHECK(back.scales.bytes == weight.scales.bytes);
    }
    CHECK_ERROR("UnsupportedError", cuda::nm_resident_size(DType::I8, 16, 16, 1, 4));
}
