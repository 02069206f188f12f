#include "bindings/bind.h"
#include "bindings/cuda_launch.h"
#include "bindings/errors.h"

PYBIND11_MODULE(_core, m) {
    namespace bindings = sparsecore::bindings;
    m.doc() = "Kernels and formats of sparsecore. Tensors cross as spans: (pointer, bytes, shape, strides, dtype).";
    bindings::translate_errors();
    bindings::bind_core(m);
    bindings::bind_formats(m);
    bindings::bind_nm(m);
    bindings::bind_resident(m);
    bindings::bind_topk(m);
    bindings::bind_attention(m);
    bindings::bind_rows(m);
    bindings::bind_decode(m);
    bindings::bind_cuda(m);
#if SPARSECORE_WITH_CUDA
    bindings::bind_cuda_launches(m);
#endif
    bindings::bind_limits(m);
}
