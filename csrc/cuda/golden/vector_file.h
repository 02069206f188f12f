// A golden vector as a file of text: what was run, where, and the bytes in and out.
//
//     sparsecore golden vector 1
//     case: mma_bf16
//     instruction: mma.m16n8k16.f32.bf16.bf16.f32
//     gpu: NVIDIA H200, capability 9.0
//     driver: 580.159.04
//     date: 2026-11-28
//     input: 3072 bytes
//     0011...      two hexadecimal digits a byte, 64 bytes a line, little endian: the case's Input, then
//     output: 512 bytes
//     0011...      its Output
#pragma once

#include <string>

#include "cuda/runtime/device_memory.h"

namespace sparsecore::cuda::golden {

struct Vector {
    std::string name, instruction, gpu, driver, date;
    Bytes input, output;
};

// core::Error: InvalidValueError where the file cannot be written; CorruptFileError names the line that is not as above.
void write_vector(const std::string& path, const Vector& vector);
Vector read_vector(const std::string& path);

}  // namespace sparsecore::cuda::golden
