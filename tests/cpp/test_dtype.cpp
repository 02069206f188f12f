#include <cmath>
#include <cstdint>

#include "core/dtype.h"
#include "harness.h"

using namespace sparsecore::core;

namespace {

bool same_or_nan(float a, float b) { return float_bits(a) == float_bits(b) || (std::isnan(a) && std::isnan(b)); }

// What a 16-bit pattern means, from the definition of the formats: an independent reference for the conversions.
double value_of(uint16_t bits, int exponent_bits) {
    const int fraction_bits = 15 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1;
    const int exponent = bits >> fraction_bits & ((1 << exponent_bits) - 1);
    const int fraction = bits & ((1 << fraction_bits) - 1);
    const double sign = bits & 0x8000 ? -1.0 : 1.0;
    if (exponent == (1 << exponent_bits) - 1) return fraction ? NAN : sign * INFINITY;
    const double significand = exponent ? (1 << fraction_bits) + fraction : fraction;
    return sign * std::ldexp(significand, (exponent ? exponent : 1) - bias - fraction_bits);
}

// Round to nearest even by comparing with both neighbours.
uint16_t nearest_bits(float value, uint16_t guess, int exponent_bits) {
    uint16_t best = guess;
    for (int delta = -1; delta <= 1; ++delta) {
        const auto candidate = static_cast<uint16_t>(guess + delta);
        const double distance = std::fabs(value_of(candidate, exponent_bits) - value);
        const double best_distance = std::fabs(value_of(best, exponent_bits) - value);
        if (distance < best_distance || (distance == best_distance && candidate % 2 == 0)) best = candidate;
    }
    return best;
}

}  // namespace

TEST(every_16_bit_pattern_converts_exactly_and_back) {
    for (uint32_t i = 0; i < 65536; ++i) {
        const auto bits = static_cast<uint16_t>(i);
        const float half = f16_to_f32(bits), brain = bf16_to_f32(bits);
        CHECK(same_or_nan(half, static_cast<float>(value_of(bits, 5))));
        CHECK(same_or_nan(brain, static_cast<float>(value_of(bits, 8))));
        CHECK(std::isnan(half) ? std::isnan(f16_to_f32(f32_to_f16(half))) : f32_to_f16(half) == bits);
        CHECK(std::isnan(brain) ? std::isnan(bf16_to_f32(f32_to_bf16(brain))) : f32_to_bf16(brain) == bits);
    }
}

TEST(conversion_rounds_to_nearest_even) {
    for (int i = 0; i < 200000; ++i) {
        const float value = bits_float(static_cast<uint32_t>(harness::random()()));
        if (!std::isfinite(value)) continue;
        const uint16_t brain = f32_to_bf16(value);
        if (std::isfinite(bf16_to_f32(brain))) CHECK(brain == nearest_bits(value, brain, 8));
        const float small = harness::normal() * std::ldexp(1.0f, static_cast<int>(harness::integer(-28, 14)));
        const uint16_t half = f32_to_f16(small);
        if (std::fabs(small) < 65504.0f) CHECK(half == nearest_bits(small, half, 5));
    }
    CHECK(f32_to_f16(65519.0f) == 0x7bff && f32_to_f16(65520.0f) == 0x7c00 && f32_to_f16(-1e30f) == 0xfc00);
    CHECK(f32_to_f16(0x1p-25f) == 0 && f32_to_f16(0x1.8p-25f) == 1 && f32_to_bf16(bits_float(0x7f7fffff)) == 0x7f80);
}

namespace {

// The numbers of e4m3 by their definition: four bits of exponent with bias 7, three of fraction, no infinities.
double e4m3_value(uint8_t bits) {
    const int exponent = bits >> 3 & 15, fraction = bits & 7;
    if ((bits & 0x7f) == 0x7f) return NAN;
    const double size = exponent ? std::ldexp(8 + fraction, exponent - 10) : std::ldexp(fraction, -9);
    return bits & 0x80 ? -size : size;
}

// The nearest number, of two the even one, by looking at all of them.
uint8_t nearest_e4m3(float value) {
    uint8_t best = 0;
    for (uint8_t code = 1; code < 0x7f; ++code) {
        const double size = std::fabs(value), distance = std::fabs(e4m3_value(code) - size), least = std::fabs(e4m3_value(best) - size);
        if (distance < least || (distance == least && code % 2 == 0)) best = code;
    }
    return static_cast<uint8_t>(best | (std::signbit(value) ? 0x80 : 0));
}

}  // namespace

TEST(every_e4m3_number_converts_exactly_and_back) {
    for (int i = 0; i < 256; ++i) {
        const auto bits = static_cast<uint8_t>(i);
        const float value = e4m3_to_f32(bits);
        CHECK(same_or_nan(value, static_cast<float>(e4m3_value(bits))));
        CHECK(f32_to_e4m3(value) == bits);
    }
}

TEST(conversion_to_e4m3_rounds_to_nearest_even_and_saturates) {
    for (int i = 0; i < 20000; ++i) {
        const float value = harness::normal() * std::ldexp(1.0f, static_cast<int>(harness::integer(-12, 8)));
        CHECK(f32_to_e4m3(value) == nearest_e4m3(value));
    }
    for (uint8_t code = 0; code < 0x7e; ++code) {  // the middles, and what lies beside them
        const auto middle = static_cast<float>((e4m3_value(code) + e4m3_value(static_cast<uint8_t>(code + 1))) / 2);
        for (const float value : {middle, std::nextafter(middle, 0.0f), std::nextafter(middle, 1e9f), -middle}) {
            CHECK(f32_to_e4m3(value) == nearest_e4m3(value));
        }
    }
    CHECK(f32_to_e4m3(464.0f) == 0x7e && f32_to_e4m3(-1e30f) == 0xfe && f32_to_e4m3(INFINITY) == 0x7e);
    CHECK(f32_to_e4m3(bits_float(1)) == 0 && f32_to_e4m3(-0.0f) == 0x80 && (f32_to_e4m3(NAN) & 0x7f) == 0x7f);
}
