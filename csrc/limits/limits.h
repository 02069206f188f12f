// Speeds that no kernel exceeds on this machine, measured by loops that do nothing but read or multiply.
#pragma once

#include <cstdint>
#include <string>

namespace sparsecore::limits {

// Bytes a second at which `threads` threads together read a buffer of `size` bytes, each its own part, again and again for
// about `seconds`: the fastest pass.
double read_rate(int64_t size, int threads, double seconds);

// Operations a second, a multiply and an add counting as two, of `threads` threads: the fastest pass within about
// `seconds`. unit: "fp32", "bf16", "int8", "amx_bf16" or "amx_int8"; 0 where the instruction set in use lacks it.
double peak_rate(const std::string& unit, int threads, double seconds);

}  // namespace sparsecore::limits
