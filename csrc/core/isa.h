// Which instruction sets this build and this machine have, and which one the kernels use.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace sparsecore::core {

enum class Isa : uint32_t { Portable = 0, Avx2 = 1, Avx512 = 2, Amx = 3 };

const char* isa_name(Isa isa);
Isa parse_isa(const std::string& name);  // unknown name: IsaError with the choices

// Compiled into this build / compiled and usable here (CPUID, XCR0, AMX permission); Portable is always in both.
std::vector<Isa> compiled_isas();
std::vector<Isa> available_isas();
bool isa_available(Isa isa);

// The set in use: SPARSECORE_FORCE_ISA if set (unknown or unavailable: IsaError), else the best available one.
Isa runtime_isa();
// For tests and benchmarks; "auto" goes back to the default.
void set_isa(const std::string& name);

// One of the features below, and the operating system saves its registers.
bool cpu_has(const std::string& feature);

// Every feature that is looked at, by its usual name.
std::vector<std::pair<std::string, bool>> cpu_features();

}  // namespace sparsecore::core
