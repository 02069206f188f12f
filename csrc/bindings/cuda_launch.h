// Functions that launch kernels: one a family. In `_core` where it is built with CUDA, and in the emulated module of the tests.
#pragma once

#include "bindings/bind.h"

namespace sparsecore::bindings {

void bind_cuda_bitmask(pybind11::module_& m);
void bind_cuda_block(pybind11::module_& m);
void bind_cuda_decode(pybind11::module_& m);
void bind_cuda_expand(pybind11::module_& m);
void bind_cuda_int8(pybind11::module_& m);
void bind_cuda_nm(pybind11::module_& m);
void bind_cuda_prefill(pybind11::module_& m);
void bind_cuda_rows(pybind11::module_& m);
void bind_cuda_topk(pybind11::module_& m);

inline void bind_cuda_launches(pybind11::module_& m) {
    bind_cuda_bitmask(m);
    bind_cuda_block(m);
    bind_cuda_decode(m);
    bind_cuda_expand(m);
    bind_cuda_int8(m);
    bind_cuda_nm(m);
    bind_cuda_prefill(m);
    bind_cuda_rows(m);
    bind_cuda_topk(m);
}

}  // namespace sparsecore::bindings
