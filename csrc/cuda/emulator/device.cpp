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

void begin_launch(const char* where) {
    const int status = std::exchange(device().next_status, 0);
    if (status != kSuccess) throw_status(status, "status " + std::to_string(status) + " as requested", where);
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
    return {static_cast<const std::uint16_t*>(data), columns, rows, row_stride, box_rows};
}

TensorMap matrices_map(const void* data, const Matrices& m, int box_rows) {
    return {static_cast<const std::uint16_t*>(data), m.columns, m.rows, m.row_stride, box_rows,
            m.thirds, m.third_stride, m.fourths, m.fourth_stride};
}

}  // namespace sparsecore::cuda
