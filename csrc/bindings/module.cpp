#include "bindings/bind.h"
#include "bindings/errors.h"

PYBIND11_MODULE(_core, m) {
    namespace py = pybind11;
    namespace bindings = sparsecore::bindings;
    m.doc() = "Kernels and formats of sparsecore. Tensors cross as spans: (pointer, bytes, shape, strides, dtype).";
    py::register_local_exception_translator([](std::exception_ptr pointer) {
        try {
            if (pointer) std::rethrow_exception(pointer);
        } catch (const sparsecore::core::Error& error) {
            bindings::raise_error(error, "sparsecore.errors");
        }
    });
    bindings::bind_core(m);
    bindings::bind_formats(m);
    bindings::bind_nm(m);
    bindings::bind_resident(m);
    bindings::bind_topk(m);
    bindings::bind_attention(m);
    bindings::bind_rows(m);
    bindings::bind_decode(m);
    bindings::bind_cuda(m);
    bindings::bind_limits(m);
}
