// The numbers of the device's layouts of weights. No layout of the CPU has such a number: a CPU kernel refuses the buffer by name.
#pragma once

#include <cstdint>

namespace sparsecore::cuda {

constexpr uint32_t kCudaLayout = 1000;           // N:M, any (nm_linear/nm_linear.h)
constexpr uint32_t kCudaTwoFourLayout = 1001;    // 2:4 of 16 bits (nm_linear/two_four/layout.h)
constexpr uint32_t kCudaBlockLayout = 1002;      // (block_linear/layout.h)
constexpr uint32_t kCudaOctetLayout = 1003;      // 1:4, 1:8, 2:8 of 16 bits (nm_linear/octets/layout.h)
constexpr uint32_t kCudaBitmaskLayout = 1004;    // (bitmask_linear/layout.h)
constexpr uint32_t kCudaGathered64Layout = 1011, kCudaGathered128Layout = 1012;  // V:N:M (nm_linear/gathered/layout.h)
constexpr uint32_t kCudaInt8Layout = 1013;       // int8 and fp8 2:4 (nm_linear/int8/layout.h)
constexpr uint32_t kCudaByteOctetLayout = 1014;  // int8 and fp8 1:4, 1:8, 2:8 (nm_linear/byte_octets/layout.h)

}  // namespace sparsecore::cuda
