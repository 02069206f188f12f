#include <pybind11/stl.h>

#include "bindings/bind.h"
#include "core/isa.h"
#include "core/parallel.h"

namespace sparsecore::bindings {

namespace py = pybind11;

namespace {

std::vector<std::string> isa_names(const std::vector<core::Isa>& isas) {
    std::vector<std::string> names;
    for (core::Isa isa : isas) names.emplace_back(core::isa_name(isa));
    return names;
}

}  // namespace

void bind_core(py::module_& m) {
    m.def(
        "runtime_isa", [] { return std::string(core::isa_name(core::runtime_isa())); },
        "Instruction set that the kernels use now.");
    m.def("set_isa", &core::set_isa, py::arg("name"), "Choose an available instruction set; 'auto' for the default.");
    m.def("available_isas", [] { return isa_names(core::available_isas()); });
    m.def("compiled_isas", [] { return isa_names(core::compiled_isas()); });
    m.def("cpu_features", [] {
        py::dict features;
        for (const auto& [name, present] : core::cpu_features()) features[name.c_str()] = present;
        return features;
    });
    m.def(
        "num_threads_runtime", [] { return std::string(core::thread_runtime()); },
        "Whose threads the kernels run on: 'gomp', 'kmpc' or 'std'.");
}

}  // namespace sparsecore::bindings
