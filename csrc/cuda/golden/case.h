// One instruction of csrc/cuda/ptx as a kernel of one block: operands come from an Input, results go to an Output.
//
// On a GPU inputs and outputs are recorded; the emulator must give the same output for the same input, bit for bit. Products are
// of small integers, so that every order of summation gives the same fp32 sum.
//
// A case is a struct with kThreads, kCapability, Input, Output, run(const Input&, Output&) on the device and draw(Random&, Input&) on
// the host; kSharedBytes, kGrid, launch() and equal() where the defaults of `Plain` do not do.
#pragma once

#include <cstddef>
#include <cstring>
#include <random>
#include <type_traits>
#include <vector>

#include "core/dtype.h"
#include "cuda/common/element.h"
#include "cuda/runtime/device_memory.h"
#include "cuda/runtime/launch.h"

namespace sparsecore::cuda::golden {

// Draws inputs; the host's side of a case.
class Random {
public:
    explicit Random(std::uint64_t seed) : engine_(seed) {}
    std::uint32_t bits() { return static_cast<std::uint32_t>(engine_()); }
    int integer(int low, int high) { return std::uniform_int_distribution<int>(low, high)(engine_); }
    // An integer from -8 to 8 as fp32, or as 16 bits of T (BF16, F16).
    float small() { return static_cast<float>(integer(-8, 8)); }
    template <class T>
    std::uint16_t small_bits() {
        std::uint16_t bits = 0;
        core::store_float(&bits, 0, T::kBrain ? core::DType::BF16 : core::DType::F16, small());
        return bits;
    }
    template <class T>
    std::uint32_t small_pair() {
        const std::uint32_t low = small_bits<T>();
        return low | static_cast<std::uint32_t>(small_bits<T>()) << 16;
    }
    // Four such integers as E4M3.
    std::uint32_t small_e4m3() {
        constexpr std::uint8_t kMagnitude[] = {0x00, 0x38, 0x40, 0x44, 0x48, 0x4a, 0x4c, 0x4e, 0x50};
        std::uint32_t word = 0;
        for (int i = 0; i < 4; ++i) word |= (kMagnitude[integer(0, 8)] | static_cast<std::uint32_t>(integer(0, 1)) << 7) << (8 * i);
        return word;
    }
    // 32 bits of 2:4 metadata: two ascending places for each of eight groups of four.
    std::uint32_t metadata() {
        std::uint32_t word = 0;
        for (int group = 0; group < 8; ++group) {
            const int first = integer(0, 2), second = integer(first + 1, 3);
            word |= static_cast<std::uint32_t>(first | second << 2) << (4 * group);
        }
        return word;
    }

private:
    std::mt19937_64 engine_;
};

// A case without its types: what recording and replaying need.
struct Case {
    const char* name;         // of the file too
    const char* instruction;  // as the PTX ISA names it
    int capability;           // the least it runs on
    std::size_t input_bytes, output_bytes;
    void (*draw)(Random& random, void* input);
    void (*launch)(const void* input, void* output);  // device memory
    bool (*equal)(const void* recorded, const void* got);
};

template <class C>
SC_GLOBAL void SC_BOUNDS(C::kThreads, 1) golden_kernel(const typename C::Input* in, typename C::Output* out) {
    C::run(*in, *out);
}

// What most cases are: one block, no shared memory, outputs that are the same bits.
template <class C>
struct Plain {
    static constexpr int kCapability = 80;
    static constexpr Grid kGrid{};
    static constexpr std::size_t kSharedBytes = 0;

    template <class Input, class Output>
    static void launch(const Input* in, Output* out) {
        cuda::launch("golden vectors", golden_kernel<C>, C::kGrid, C::kThreads, C::kSharedBytes, 0, in, out);
    }
    template <class Output>
    static bool equal(const Output& recorded, const Output& got) {
        static_assert(std::has_unique_object_representations_v<Output>);
        return std::memcmp(&recorded, &got, sizeof(Output)) == 0;
    }
};

template <class C>
Case make_case(const char* name, const char* instruction) {
    using Input = typename C::Input;
    using Output = typename C::Output;
    return {name,
            instruction,
            C::kCapability,
            sizeof(Input),
            sizeof(Output),
            [](Random& random, void* input) { C::draw(random, *static_cast<Input*>(input)); },
            [](const void* input, void* output) {
                C::launch(static_cast<const Input*>(input), static_cast<Output*>(output));
            },
            [](const void* recorded, const void* got) {
                return C::equal(*static_cast<const Output*>(recorded), *static_cast<const Output*>(got));
            }};
}

// Floats: NaN equals every NaN, all else bit for bit. An instruction may give any NaN.
template <class Output>
bool equal_floats(const Output& recorded, const Output& got) {
    static_assert(sizeof(Output) % sizeof(float) == 0);
    float a[sizeof(Output) / sizeof(float)], b[sizeof(Output) / sizeof(float)];
    std::memcpy(a, &recorded, sizeof a);
    std::memcpy(b, &got, sizeof b);
    for (std::size_t i = 0; i < sizeof(Output) / sizeof(float); ++i) {
        const bool both_nan = a[i] != a[i] && b[i] != b[i];
        if (!both_nan && std::memcmp(&a[i], &b[i], sizeof(float)) != 0) return false;
    }
    return true;
}

// The lists, one for each file of cases.
std::vector<Case> thread_cases();
std::vector<Case> arithmetic_cases();
std::vector<Case> bit_cases();
std::vector<Case> warp_cases();
std::vector<Case> copy_cases();
std::vector<Case> matrix_cases();
std::vector<Case> byte_product_cases();
std::vector<Case> barrier_cases();
std::vector<Case> cluster_cases();
std::vector<Case> tile_cases();
std::vector<Case> row_cases();
std::vector<Case> warpgroup_cases();
std::vector<Case> warpgroup_byte_cases();

}  // namespace sparsecore::cuda::golden
