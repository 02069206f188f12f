// simulator._sim.BurstReader: a trace as the bursts that it sends.
#include "bindings/sim_bursts.h"

#include <pybind11/numpy.h>

#include <string>
#include <string_view>
#include <vector>

#include "sim/trace/burst_reader.h"

namespace py = pybind11;

namespace sparsecore::bindings {

namespace {

py::tuple next(sim::BurstReader& reader, size_t most) {
    std::vector<sim::TraceBurst> bursts(most);
    const auto count = static_cast<py::ssize_t>(reader.next(bursts.data(), most));
    py::array_t<int64_t> cycles(count), lines(count);
    py::array_t<bool> writes(count);
    for (py::ssize_t i = 0; i < count; ++i) {
        const sim::TraceBurst& burst = bursts[static_cast<size_t>(i)];
        cycles.mutable_at(i) = burst.cycle;
        lines.mutable_at(i) = burst.line;
        writes.mutable_at(i) = burst.write;
    }
    return py::make_tuple(cycles, lines, writes);
}

}  // namespace

void bind_bursts(py::module_& m) {
    py::class_<sim::BurstReader>(m, "BurstReader", "The bursts of a request trace, given as text in pieces of any size.")
        .def(py::init<int64_t, int64_t, bool, std::string>(), py::arg("capacity"), py::arg("burst_bytes"),
             py::arg("merge"), py::arg("source"))
        .def(
            "feed",
            [](sim::BurstReader& reader, const py::bytes& text) {
                const std::string_view view = text;
                reader.feed(view.data(), view.size());
            },
            py::arg("text"), "Add text; it is kept until it is read.")
        .def("finish", &sim::BurstReader::finish, "There is no more text.")
        .def("next", &next, py::arg("most"),
             "Return (cycles, lines, writes) of up to `most` bursts; none: more text is needed, or the trace is over.");
}

}  // namespace sparsecore::bindings
