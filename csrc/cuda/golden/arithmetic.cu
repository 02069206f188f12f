// Arithmetic in one instruction: ptx/arithmetic.h.
#include "cuda/ptx/arithmetic.h"

#include <cmath>

#include "cuda/golden/case.h"

namespace sparsecore::cuda::golden {

namespace {

// An approximation by definition: what is compared is that both are within its bound of each other.
struct Powers : Plain<Powers> {
    static constexpr int kThreads = 512;
    struct Input {
        float x[kThreads];
    };
    struct Output {
        float power[kThreads];
    };
    static SC_DEVICE void run(const Input& in, Output& out) { out.power[thread_x()] = exp2_fast(in.x[thread_x()]); }
    static void draw(Random& random, Input& in) {
        for (float& x : in.x) x = static_cast<float>(random.integer(-1300000, 1300000)) / 10000.0f;
        const float special[] = {0.0f, -0.0f, 1.0f, -126.0f, 128.0f, INFINITY, -INFINITY, NAN};
        std::memcpy(in.x, special, sizeof special);
    }
    static bool equal(const Output& recorded, const Output& got) {
        constexpr float kBound = 2.0f / (1 << 22);
        for (int i = 0; i < kThreads; ++i) {
            const float a = recorded.power[i], b = got.power[i];
            const bool both_nan = a != a && b != b;
            if (!both_nan && a != b && !(std::fabs(a - b) <= kBound * std::fabs(a))) return false;
        }
        return true;
    }
};

// A product less a number that half of the time is that product: 0, where nothing is fused.
struct Products : Plain<Products> {
    static constexpr int kThreads = 512;
    struct Input {
        float a[kThreads], b[kThreads], product[kThreads];
    };
    struct Output {
        std::uint32_t left[kThreads];  // bits
    };
    static SC_DEVICE void run(const Input& in, Output& out) {
        const auto i = thread_x();
        out.left[i] = float_bits(multiply_rounded(in.a[i], in.b[i]) - in.product[i]);
    }
    static void draw(Random& random, Input& in) {
        for (int i = 0; i < kThreads; ++i) {
            in.a[i] = static_cast<float>(random.integer(-1300000, 1300000)) / 10000.0f;
            in.b[i] = static_cast<float>(random.integer(1, 1000000)) / 1000000.0f;
            in.product[i] = random.integer(0, 1) != 0 ? in.a[i] * in.b[i] : in.a[i];
        }
    }
};

template <class T>
struct Pairs : Plain<Pairs<T>> {
    static constexpr int kThreads = 512;
    struct Input {
        float low[kThreads], high[kThreads];
    };
    struct Output {
        std::uint32_t pair[kThreads];
    };
    static SC_DEVICE void run(const Input& in, Output& out) {
        out.pair[thread_x()] = pack_pair<T>(in.low[thread_x()], in.high[thread_x()]);
    }
    static void draw(Random& random, Input& in) {
        for (int i = 0; i < kThreads; ++i) {
            in.low[i] = number(random);
            in.high[i] = number(random);
        }
    }

private:
    // Around the range of fp16, often a tie between two numbers of T; no NaN, whose bits are free.
    static float number(Random& random) {
        const std::uint32_t exponent = static_cast<std::uint32_t>(random.integer(127 - 26, 127 + 17));
        const std::uint32_t fraction = random.bits() & (random.integer(0, 1) ? 0x7fffffu : T::kBrain ? 0x7f8000u : 0x7ff000u);
        const std::uint32_t bits = (random.bits() & 0x80000000u) | exponent << 23 | fraction;
        float value;
        std::memcpy(&value, &bits, sizeof value);
        return value;
    }
};

struct Float8Pairs : Plain<Float8Pairs> {
    static constexpr int kThreads = 512, kCapability = 89;
    struct Input {
        float low[kThreads], high[kThreads];
    };
    struct Output {
        std::uint32_t pair[kThreads];
    };
    static SC_DEVICE void run(const Input& in, Output& out) {
        out.pair[thread_x()] = pack_e4m3(in.low[thread_x()], in.high[thread_x()]);
    }
    static void draw(Random& random, Input& in) {
        for (int i = 0; i < kThreads; ++i) {
            in.low[i] = number(random);
            in.high[i] = number(random);
        }
        const float special[] = {0.0f, -0.0f, 448.0f, 464.0f, -465.0f, INFINITY, -INFINITY, 0x1p-149f};
        std::memcpy(in.low, special, sizeof special);
    }

private:
    // Around the range of E4M3, often a tie between two numbers of it.
    static float number(Random& random) {
        const std::uint32_t exponent = static_cast<std::uint32_t>(random.integer(127 - 12, 127 + 10));
        const std::uint32_t fraction = random.bits() & (random.integer(0, 1) ? 0x7fffffu : 0x780000u);
        const std::uint32_t bits = (random.bits() & 0x80000000u) | exponent << 23 | fraction;
        float value;
        std::memcpy(&value, &bits, sizeof value);
        return value;
    }
};

struct Float8Halves : Plain<Float8Halves> {
    static constexpr int kThreads = 256;
    struct Input {
        std::uint32_t bytes[kThreads];
    };
    struct Output {
        std::uint32_t pairs[kThreads][2];
    };
    static SC_DEVICE void run(const Input& in, Output& out) { unpack_e4m3(out.pairs[thread_x()], in.bytes[thread_x()]); }
    // Every number once as the lowest one.
    static void draw(Random& random, Input& in) {
        for (std::uint32_t i = 0; i < kThreads; ++i) {
            in.bytes[i] = number(i);
            for (int shift = 8; shift < 32; shift += 8) in.bytes[i] |= number(random.bits()) << shift;
        }
    }

private:
    static std::uint32_t number(std::uint32_t bits) { return (bits & 0x7fu) == 0x7fu ? 0 : bits & 0xffu; }
};

}  // namespace

std::vector<Case> arithmetic_cases() {
    return {make_case<Powers>("powers", "ex2.approx.ftz.f32"),
            make_case<Products>("products", "mul.rn.f32"),
            make_case<Pairs<BF16>>("pairs_bf16", "cvt.rn.bf16x2.f32"),
            make_case<Pairs<F16>>("pairs_f16", "cvt.rn.f16x2.f32"),
            make_case<Float8Pairs>("pairs_e4m3", "cvt.rn.satfinite.e4m3x2.f32"),
            make_case<Float8Halves>("halves_e4m3", "cvt.rn.f16x2.e4m3x2")};
}

}  // namespace sparsecore::cuda::golden
