// simulator._sim: the timing model of the DRAM.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <map>
#include <string>
#include <tuple>

#include "bindings/errors.h"
#include "core/error.h"
#include "sim/dram.h"

namespace py = pybind11;
using sparsecore::core::Error;
using namespace sparsecore::sim;

namespace {

using Numbers = std::map<std::string, int64_t>;
using MapText = std::vector<std::pair<std::string, int>>;

// Every field must be given and no other: the caller's table and this one cannot drift apart unnoticed.
void fill(const Numbers& given, const char* table, const std::map<std::string, int64_t*>& fields) {
    for (const auto& [name, target] : fields) {
        const auto found = given.find(name);
        if (found == given.end()) throw Error("ConfigError", "missing value " + name, table);
        *target = found->second;
    }
    for (const auto& item : given) {
        if (fields.count(item.first) == 0) throw Error("ConfigError", "unknown value " + item.first, table);
    }
}

DramConfig make_config(const Numbers& organisation, const Numbers& timing, const Numbers& admission,
                       const MapText& map) {
    DramConfig c;
    Organisation& o = c.organisation;
    fill(organisation, "organisation",
         {{"channels", &o.channels}, {"pseudo_channels", &o.pseudo_channels}, {"bank_groups", &o.bank_groups},
          {"banks_per_group", &o.banks_per_group}, {"rows", &o.rows}, {"columns", &o.columns},
          {"burst_bytes", &o.burst_bytes}});
    Timing& t = c.timing;
    fill(timing, "timing",
         {{"rcd_read", &t.rcd_read}, {"rcd_write", &t.rcd_write}, {"rp", &t.rp}, {"ras", &t.ras},
          {"rrd_short", &t.rrd_short}, {"rrd_long", &t.rrd_long}, {"faw", &t.faw}, {"ccd_short", &t.ccd_short},
          {"ccd_long", &t.ccd_long}, {"wtr_short", &t.wtr_short}, {"wtr_long", &t.wtr_long}, {"rtp", &t.rtp},
          {"wr", &t.wr}, {"rtw", &t.rtw}, {"cl", &t.cl}, {"cwl", &t.cwl}, {"burst", &t.burst}, {"rfc", &t.rfc},
          {"refi", &t.refi}, {"act_slots", &t.act_slots}, {"pre_slots", &t.pre_slots}});
    fill(admission, "admission", {{"depth", &c.admission.depth}, {"run_ahead", &c.admission.run_ahead}});
    const std::map<std::string, Field> names = {{"channel", Field::Channel},   {"pseudo_channel", Field::Pseudo},
                                                {"bank_group", Field::Group}, {"bank", Field::Bank},
                                                {"column", Field::Column},    {"row", Field::Row}};
    for (const auto& [name, bits] : map) {
        const auto found = names.find(name);
        if (found == names.end()) throw Error("ConfigError", "unknown field " + name, "address_map");
        c.map.push_back({found->second, bits});
    }
    return c;
}

void translate(std::exception_ptr pointer) {
    try {
        if (pointer) std::rethrow_exception(pointer);
    } catch (const Error& error) {
        sparsecore::bindings::raise_error(error, "simulator.errors");
    }
}

using Addresses = py::array_t<int64_t, py::array::c_style | py::array::forcecast>;

int64_t enqueue(Dram& dram, int64_t time, const Addresses& addresses, int64_t bytes, int64_t stream, bool write) {
    if (addresses.ndim() != 1) throw Error("InvalidValueError", "addresses must have one dimension");
    return dram.enqueue(time, addresses.data(), addresses.shape(0), bytes, stream, write);
}

std::vector<std::tuple<int64_t, int64_t, int64_t>> run_until(Dram& dram, int64_t limit) {
    std::vector<std::tuple<int64_t, int64_t, int64_t>> result;
    for (const Completion& c : dram.run_until(limit)) result.emplace_back(c.request, c.first, c.last);
    return result;
}

std::vector<std::tuple<int64_t, int64_t, int64_t>> counts(const Dram& dram) {
    std::vector<std::tuple<int64_t, int64_t, int64_t>> result;
    for (const StreamCounts& s : dram.counts()) result.emplace_back(s.bursts, s.activations, s.row_hits);
    return result;
}

}  // namespace

PYBIND11_MODULE(_sim, m) {
    m.doc() = "The simulator's compiled hot loop: DRAM timing.";
    py::register_local_exception_translator(translate);
    py::class_<Dram>(m, "Dram", "A memory with channels, banks and a first-ready scheduler; times are in its ticks.")
        .def(py::init([](const Numbers& organisation, const Numbers& timing, const Numbers& admission,
                         const MapText& map, int64_t streams) {
                 return std::make_unique<Dram>(make_config(organisation, timing, admission, map), streams);
             }),
             py::arg("organisation"), py::arg("timing"), py::arg("admission"), py::arg("address_map"),
             py::arg("streams"))
        .def("reset", &Dram::reset, py::arg("refresh_phase") = 0,
             "Close all rows and forget all requests and counts; `refresh_phase` ticks since the last refresh.")
        .def("enqueue", &enqueue, py::arg("time"), py::arg("addresses"), py::arg("row_bytes"), py::arg("stream"),
             py::arg("write") = false, "Add a request of equally long rows from tick `time` on; returns its id.")
        .def("run_until", &run_until, py::arg("limit"),
             "Run to tick `limit` or to the first completion before it; returns [(request, first, last)].")
        .def("counts", &counts, "Per stream (bursts, activations, row hits) since the last reset.")
        .def_property_readonly("capacity", &Dram::capacity, "Bytes.")
        .def_property_readonly("now", &Dram::now, "Tick of the last event.");
}
