// ptx/async_copy.h on the host.
#pragma once

#include <array>
#include <cstring>

#include "cuda/emulator/thread.h"

namespace sparsecore::cuda {

namespace emulator {

// The source is read when the copy is issued: kernels do not write what they copy.
template <int kBytes>
void copy_async(void* to, const void* from, int bytes) {
    require_aligned(to, kBytes, "cp.async to shared memory");
    if (bytes < 0 || bytes > kBytes) fault("cp.async of " + std::to_string(bytes) + " bytes");
    std::array<unsigned char, kBytes> data{};
    if (bytes > 0) {
        require_aligned(from, kBytes, "cp.async from global memory");
        std::memcpy(data.data(), from, static_cast<std::size_t>(bytes));
    }
    copies_of_thread().add([to, data] { std::memcpy(to, data.data(), data.size()); });
}

}  // namespace emulator

inline void copy_async_16(void* to, const void* from, int bytes) { emulator::copy_async<16>(to, from, bytes); }
inline void copy_async_4(void* to, const void* from, int bytes) { emulator::copy_async<4>(to, from, bytes); }
inline void commit_copies() { emulator::copies_of_thread().commit(); }
inline void fence_async_proxy() { emulator::show_async(); }
template <int kPending>
void wait_copies() {
    emulator::copies_of_thread().wait(kPending);
}

}  // namespace sparsecore::cuda
