#include "cuda/emulator/device.h"

#include <utility>

#include "core/error.h"
#include "cuda/runtime/launch.h"
#include "cuda/runtime/runtime.h"
#include "cuda/runtime/tensor_map.h"

namespace sparsecore::cuda {

namespace emulator {

Device& device() {
    static Device device;
    return device;
}

std::size_t most_shared_bytes(int capability) {
    switch (capability) {
        case 80:
        case 87: return 163 << 10;
        case 86:
        case 89: return 99 << 10;
        default: return capability >= 120 ? 99 << 10 : 227 << 10;
    }
}

void begin_launch(const char* where, std::size_t shared) {
    const int status = std::exchange(device().next_status, 0);
    if (status != kSuccess) throw_status(status, "status " + std::to_string(status) + " as requested", where);
    if (shared > most_shared_bytes(device().capability)) {
        throw_status(kInvalidValue, std::to_string(shared) + " bytes of shared memory for a block", where);
    }
    ++device().launches;
}

}  // namespace emulator

int capability() { return emulator::device().capability; }
int multiprocessors() { return emulator::device().multiprocessors; }

RuntimeInfo runtime_info() {
    RuntimeInfo info;
    info.compiled = info.available = true;
    info.devices.push_back({"emulator", capability() / 10, capability() % 10, multiprocessors(), 0});
    return info;
}

TensorMap matrix_map(const void* data, std::int64_t rows, std::int64_t columns, std::int64_t row_stride, int box_rows) {
    return matrices_map(data, {rows, columns, row_stride, 1, 0, 1, 0}, box_rows);
}

TensorMap matrices_map(const void* data, const Matrices& m, int box_rows) {
    const TensorMap map{static_cast<const std::uint16_t*>(data), m.columns, m.rows, m.row_stride, box_rows,
                        m.thirds, m.third_stride, m.fourths, m.fourth_stride};
    if (!emulator::is_encodable(map) || reinterpret_cast<std::uintptr_t>(data) % 16 != 0) {
        throw core::Error("LaunchError", "cuTensorMapEncodeTiled refused a matrix", "CUDA driver");
    }
    return map;
}

}  // namespace sparsecore::cuda
