// 64-bit arithmetic on sizes that come from outside: overflow is an error, never a wrapped number.
#pragma once

#include <cstdint>

#include "core/error.h"

namespace sparsecore::core {

inline int64_t checked_mul(int64_t a, int64_t b, const char* what) {
    int64_t result = 0;
    if (__builtin_mul_overflow(a, b, &result)) {
        throw Error("SpanError", std::string("size overflows 64 bits: ") + what,
                    std::to_string(a) + " * " + std::to_string(b));
    }
    return result;
}

inline int64_t checked_add(int64_t a, int64_t b, const char* what) {
    int64_t result = 0;
    if (__builtin_add_overflow(a, b, &result)) {
        throw Error("SpanError", std::string("size overflows 64 bits: ") + what,
                    std::to_string(a) + " + " + std::to_string(b));
    }
    return result;
}

// Both for a >= 0, b > 0.
inline int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0); }
inline int64_t round_up(int64_t a, int64_t b, const char* what) { return checked_mul(ceil_div(a, b), b, what); }

}  // namespace sparsecore::core
