// CUDA without launches: what there is.
#include <pybind11/stl.h>

#include "bindings/bind.h"
#include "cuda/runtime/runtime.h"

#ifndef SPARSECORE_ASSEMBLED
#define SPARSECORE_ASSEMBLED  // no machine code
#endif

namespace sparsecore::bindings {

namespace py = pybind11;
using namespace py::literals;

namespace {

py::dict info() {
    const cuda::RuntimeInfo info = cuda::runtime_info();
    py::list devices;
    for (const cuda::DeviceInfo& device : info.devices) {
        devices.append(py::dict("name"_a = device.name, "capability"_a = py::make_tuple(device.major, device.minor),
                                "multiprocessors"_a = device.multiprocessors,
                                "memory_bytes"_a = device.memory_bytes));
    }
    return py::dict("compiled"_a = info.compiled, "architectures"_a = std::vector<int>{SPARSECORE_ASSEMBLED},
                    "available"_a = info.available, "reason"_a = info.reason, "devices"_a = devices);
}

}  // namespace

void bind_cuda(py::module_& m) {
    m.def("cuda_info", &info, "What this build and machine can do with CUDA: compiled, architectures that it has machine code for (compute "
          "capability times ten), available, reason, devices.");
}

}  // namespace sparsecore::bindings
