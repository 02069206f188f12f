// For tests: the functions of the CUDA kernels with the emulator for a GPU, and host memory for the device's.
#include "bindings/cuda_launch.h"
#include "bindings/errors.h"
#include "cuda/emulator/device.h"

PYBIND11_MODULE(_cuda_emulated, m) {
    namespace py = pybind11;
    namespace bindings = sparsecore::bindings;
    namespace emulator = sparsecore::cuda::emulator;
    using namespace py::literals;
    m.doc() = "The CUDA kernels on the host.";
    bindings::translate_errors();
    bindings::bind_cuda(m);
    bindings::bind_cuda_launches(m);
    m.attr("SCHEDULES") = emulator::kSchedules.size();
    m.def(
        "set_device",
        [](int capability, int multiprocessors) {
            emulator::device().capability = capability;
            emulator::device().multiprocessors = multiprocessors;
        },
        "capability"_a, "multiprocessors"_a, "What the device says of itself: capability times ten, as 80 or 90.");
    m.def(
        "set_schedule", [](std::size_t index) { emulator::device().schedule = emulator::kSchedules.at(index); }, "index"_a);
    m.def(
        "fail_next", [](int status) { emulator::device().next_status = status; }, "status"_a,
        "The next launch fails with this status of CUDA.");
    m.def("launches", [] { return emulator::device().launches; }, "How many kernels were launched so far.");
}
