// The Hopper kernel of bytes, int8 and fp8, in clusters of every size, bit for bit against the sums of its definition.
#include <cmath>

#include "core/buffer.h"
#include "cuda/emulator/launch.h"
#include "cuda/nm_linear/int8/int8_linear.h"
#include "cuda/nm_linear/int8/sm90_gemm.h"
#include "cuda/nm_linear/nm_linear.h"
#include "cuda/nm_linear/two_four/sm90_choice.h"
#include "cuda/runtime/tensor_map.h"
#include "cuda_problem.h"

using namespace sparsecore;
using namespace weights;

namespace {

constexpr uint8_t kUntouched = 0xa5;

// The byte that stands for an integer from -127 to 127: itself, or an eighth of it towards zero as E4M3, which has all of these.
template <class T>
std::uint8_t byte_of(int integer);
template <>
std::uint8_t byte_of<cuda::I8>(int integer) {
    return static_cast<std::uint8_t>(integer);
}
template <>
std::uint8_t byte_of<cuda::E4M3>(int integer) {
    cuda::E4M3 element{};
    cuda::store(&element, static_cast<float>(integer / 8));
    return element.bits;
}

float number(cuda::I8, std::uint8_t byte) { return static_cast<std::int8_t>(byte); }
float number(cuda::E4M3, std::uint8_t byte) { return cuda::to_float(cuda::E4M3{byte}); }

// A call whose activations have been quantised: all that the product reads and writes.
struct ByteProblem {
    DType dtype, bias_dtype;
    Weight weight;
    bool has_bias, transposed;
    int64_t tokens, stride, out_stride;
    core::AlignedBuffer q;
    Memory x, x_scales, bias, out;
    Resident resident;
    cuda::Int8Args args;

    int64_t rows() const { return weight.geometry.rows; }
    int64_t place(int64_t token, int64_t row) const { return transposed ? row * tokens + token : token * out_stride + row; }
};

template <class T>
ByteProblem random_byte_problem(int64_t about_rows, int64_t cols, int64_t tokens) {
    const int64_t rows = byte_rows(about_rows, cols);
    const DType dtype = random_float_type();
    Weight weight = random_nm(rows, cols, 2, 4, DType::I8, harness::integer(0, 1) == 1);
    for (uint8_t& byte : weight.values.bytes) byte = byte_of<T>(static_cast<std::int8_t>(byte));
    for (uint8_t& byte : weight.dense.bytes) byte = byte_of<T>(static_cast<std::int8_t>(byte));
    const int64_t stride = cuda::quantised_stride(cols);
    const int64_t out_stride = harness::pick<int64_t>({rows, (rows + 7) / 8 * 8});  // of a whole output, or of a part of a wider one
    ByteProblem p{dtype, harness::pick<DType>({dtype, DType::F32}), std::move(weight), harness::integer(0, 3) != 0,
                  harness::integer(0, 3) == 0, tokens, stride, out_stride, core::AlignedBuffer(tokens * stride + 64),
                  Memory(tokens * cols * itemsize(dtype)), Memory(tokens * 4), Memory(rows * 4), Memory(tokens * out_stride * itemsize(dtype)),
                  Resident(cuda::nm_resident_size(DType::I8, rows, cols, 2, 4)), {}};
    cuda::nm_resident_make(p.weight.stored(), p.resident.span);
    auto* q = static_cast<uint8_t*>(p.q.template as<void>());
    for (int64_t i = 0; i < tokens * stride; ++i) q[i] = i % stride < cols ? byte_of<T>(static_cast<int>(harness::integer(-127, 127))) : 0;
    for (int64_t i = 0; i < tokens; ++i) {
        set_value(p.x_scales.data(), i, DType::F32, harness::integer(0, 20) == 0 ? NAN : std::fabs(harness::normal()) + 0.01f);
    }
    for (int64_t i = 0; i < rows; ++i) set_value(p.bias.data(), i, p.bias_dtype, harness::normal());
    Span out = make_span(p.out.data(), dtype, {tokens, rows});
    out.strides[0] = p.transposed ? 1 : out_stride;
    out.strides[1] = p.transposed ? tokens : 1;
    out.bytes = p.out.bytes.size();
    std::fill(p.out.bytes.begin(), p.out.bytes.end(), kUntouched);
    const Span bias = make_span(p.bias.data(), p.bias_dtype, {rows});
    p.args = cuda::int8_linear_call(make_span(p.x.data(), dtype, {tokens, cols}), p.resident.span, 2, 4, p.has_bias ? &bias : nullptr, out,
                                    harness::pick<cpu::Activation>({cpu::Activation::None, cpu::Activation::Relu}),
                                    make_span(q, DType::I8, {tokens, stride}), make_span(p.x_scales.data(), DType::F32, {tokens}));
    return p;
}

template <class T, int kTokens>
void emulate(const ByteProblem& p, unsigned cluster, cuda::emulator::Schedule schedule) {
    const auto blocks = static_cast<unsigned>((p.rows() + cuda::kSm90Rows - 1) / cuda::kSm90Rows);
    const auto map = cuda::matrix_map(p.args.q, p.tokens, p.stride / 2, p.stride / 2, kTokens / static_cast<int>(cluster));
    cuda::emulator::launch({{(blocks + cluster - 1) / cluster * cluster, static_cast<unsigned>((p.tokens + kTokens - 1) / kTokens)},
                            cuda::kSm90Threads,
                            sizeof(cuda::Sm90ByteShared<T, kTokens>),
                            cluster},
                           schedule, [&] { cuda::sm90_byte_gemm<T, kTokens>(p.args, p.dtype, map); });
}

template <class T>
void compare(ByteProblem& p) {
    const int64_t cols = p.weight.geometry.cols;
    const auto* q = reinterpret_cast<const uint8_t*>(p.args.q);
    for (int64_t token = 0; token < p.tokens; ++token) {
        for (int64_t row = 0; row < p.rows(); ++row) {
            double sum = 0.0;
            for (int64_t c = 0; c < cols; ++c) {
                sum += static_cast<double>(number(T{}, p.weight.dense.bytes[static_cast<size_t>(row * cols + c)])) * number(T{}, q[token * p.stride + c]);
            }
            const float bias = p.has_bias ? core::load_float(p.bias.data(), row, p.bias_dtype) : 0.0f;
            const float scale = core::load_float(p.x_scales.data(), token, DType::F32) * core::load_float(p.weight.scales.data(), row, DType::F32);
            float result = static_cast<float>(sum) * scale + bias;
            if (p.args.call.activation == cpu::Activation::Relu) result = result < 0.0f ? 0.0f : result;
            Memory rounded(4);
            core::store_float(rounded.data(), 0, p.dtype, result);
            const float expected = core::load_float(rounded.data(), 0, p.dtype), got = core::load_float(p.out.data(), p.place(token, row), p.dtype);
            CHECK(std::isnan(expected) ? std::isnan(got) : got == expected);
        }
        for (int64_t row = p.rows(); !p.transposed && row < p.out_stride; ++row) {
            for (int64_t byte = 0; byte < itemsize(p.dtype); ++byte) {
                CHECK(p.out.bytes[static_cast<size_t>(p.place(token, row) * itemsize(p.dtype) + byte)] == kUntouched);
            }
        }
    }
}

template <class T, int kTokens>
void check(int64_t rows, int64_t cols, int64_t tokens, unsigned cluster) {
    ByteProblem p = random_byte_problem<T>(rows, cols, tokens);
    Memory first;
    for (const auto schedule : cuda::emulator::kSchedules) {
        emulate<T, kTokens>(p, cluster, schedule);
        if (first.bytes.empty()) first = p.out;
        CHECK(first.bytes == p.out.bytes);
        std::fill(p.out.bytes.begin(), p.out.bytes.end(), kUntouched);
    }
    p.out = first;
    p.args.call.out = p.out.data();
    compare<T>(p);
}

}  // namespace

TEST(cuda_hopper_multiplies_bytes_exactly) {
    // Some with more column tiles than stages.
    check<cuda::I8, 64>(harness::pick<int64_t>({1, 65, 128}), harness::pick<int64_t>({3, 100, 515}), harness::integer(1, 70), 1);
    check<cuda::I8, 64>(harness::pick<int64_t>({130, 200, 256}), harness::integer(900, 1000), harness::integer(30, 64), 2);
    check<cuda::E4M3, 64>(harness::pick<int64_t>({7, 128, 300}), harness::pick<int64_t>({64, 900}), harness::integer(1, 64), 1);
    check<cuda::E4M3, 64>(harness::pick<int64_t>({17, 300}), harness::pick<int64_t>({130, 200}), harness::integer(1, 64), 4);
    check<cuda::E4M3, 128>(harness::integer(129, 256), harness::integer(100, 300), harness::integer(65, 130), 2);
    check<cuda::I8, 256>(harness::pick<int64_t>({40, 129}), harness::integer(200, 300), harness::integer(200, 260), 2);
}

TEST(cuda_hopper_launches_what_bytes_need) {
    const harness::OnDevice device(90);
    for (const int64_t rows : {harness::integer(1, 128), harness::integer(200, 256), harness::integer(400, 512)}) {
        ByteProblem integers = random_byte_problem<cuda::I8>(rows, harness::integer(1, 200), harness::integer(17, 140));
        cuda::int8_launch_sm90(integers.args, integers.dtype, 0);
        compare<cuda::I8>(integers);
        ByteProblem floats = random_byte_problem<cuda::E4M3>(rows, harness::integer(1, 200), harness::integer(1, 70));
        cuda::e4m3_launch_sm90(floats.args, floats.dtype, 0);
        compare<cuda::E4M3>(floats);
    }
}

TEST(cuda_hopper_chooses_clusters_and_blocks_of_bytes) {
    for (const auto& [rows, cluster] : {std::pair{1, 1}, {2, 2}, {3, 1}, {4, 4}, {5, 1}, {6, 2}, {7, 4}, {9, 2}, {64, 4}, {66, 4}}) {
        CHECK(cuda::sm90_cluster(rows) == static_cast<unsigned>(cluster));
    }
    CHECK(cuda::sm90_block_tokens(8192, 64, 132) == 256 && cuda::sm90_block_tokens(17, 64, 132) == 64);
    CHECK(cuda::sm90_block_tokens(512, 32, 132) == 128 && cuda::sm90_block_tokens(128, 32, 132) == 64);
    CHECK(cuda::sm90_block_tokens(100, 224, 132) == 128 && cuda::sm90_block_tokens(1, 1, 132) == 64);
}
