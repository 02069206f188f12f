// CUDA without launches: what there is, and the layouts of weights, which are made on the host.
#include <pybind11/stl.h>

#include "bindings/bind.h"
#include "bindings/span_caster.h"
#include "cuda/nm_linear/nm_linear.h"
#include "cuda/runtime/runtime.h"

namespace sparsecore::bindings {

namespace py = pybind11;
using namespace py::literals;
using core::Span;

namespace {

formats::Stored stored_nm(int64_t cols, int64_t n, int64_t m, const Span& compressed, const Span& positions, bool codes) {
    core::require_shape(compressed, "compressed", {-1, -1});
    formats::Stored stored;
    stored.values = compressed;
    stored.positions = positions;
    stored.geometry = {formats::Kind::NM, compressed.dtype, compressed.shape[0], cols, n, m, element_count(compressed),
                       codes};
    return stored;
}

py::dict info() {
    const cuda::RuntimeInfo info = cuda::runtime_info();
    py::list devices;
    for (const cuda::DeviceInfo& device : info.devices) {
        devices.append(py::dict("name"_a = device.name, "capability"_a = py::make_tuple(device.major, device.minor),
                                "multiprocessors"_a = device.multiprocessors,
                                "memory_bytes"_a = device.memory_bytes));
    }
    return py::dict("compiled"_a = info.compiled, "available"_a = info.available, "reason"_a = info.reason,
                    "devices"_a = devices);
}

int64_t size(int64_t rows, int64_t cols, int64_t n, int64_t m, const std::string& dtype) {
    return cuda::nm_resident_size(parse_dtype(dtype), rows, cols, n, m);
}

void make(int64_t cols, int64_t n, int64_t m, const Span& compressed, const Span& positions, bool codes,
          const Span& out) {
    cuda::nm_resident_make(stored_nm(cols, n, m, compressed, positions, codes), out);
}

void to_stored(const Span& resident, int64_t cols, int64_t n, int64_t m, const Span& compressed, const Span& positions,
               bool codes) {
    cuda::nm_resident_to_stored(resident, stored_nm(cols, n, m, compressed, positions, codes));
}

}  // namespace

void bind_cuda(py::module_& m) {
    m.def("cuda_info", &info, "What this build and machine can do with CUDA: compiled, available, reason, devices.");
    m.def("cuda_nm_resident_size", &size, "rows"_a, "cols"_a, "n"_a, "m"_a, "dtype"_a);
    m.def("cuda_nm_resident_make", &make, "cols"_a, "n"_a, "m"_a, "compressed"_a, "positions"_a, "codes"_a, "out"_a,
          ReleaseGil(), "Validate a stored N:M weight (host memory) and lay it out for the device, still on the host.");
    m.def("cuda_nm_resident_to_stored", &to_stored, "resident"_a, "cols"_a, "n"_a, "m"_a, "compressed"_a, "positions"_a,
          "codes"_a, ReleaseGil());
}

}  // namespace sparsecore::bindings
