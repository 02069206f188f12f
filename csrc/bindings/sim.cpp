// simulator._sim: the timing model of the DRAM, and replaying traces on it.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <map>
#include <string>
#include <tuple>

#include "bindings/errors.h"
#include "bindings/sim_bursts.h"
#include "core/error.h"
#include "sim/dram.h"
#include "sim/trace/replay.h"

namespace py = pybind11;
using sparsecore::core::Error;
using namespace sparsecore::sim;

namespace {

using Numbers = std::map<std::string, int64_t>;
using MapText = std::vector<std::pair<std::string, int>>;

// Every field must be given and no other: the caller's table and this one cannot drift apart unnoticed.
class Fields {
public:
    Fields(Numbers given, std::string table) : given_(std::move(given)), table_(std::move(table)) {}

    Fields& operator()(const char* name, int64_t& target) {
        const auto found = given_.find(name);
        if (found == given_.end()) throw Error("ConfigError", std::string("missing value ") + name, table_);
        target = found->second;
        given_.erase(found);
        return *this;
    }
    Fields& operator()(const char* name, bool& target) {
        int64_t value = 0;
        (*this)(name, value);
        target = value != 0;
        return *this;
    }
    template <typename Enum>
    Fields& choice(const char* name, Enum& target, int64_t choices) {
        int64_t value = 0;
        (*this)(name, value);
        if (value < 0 || value >= choices) throw Error("ConfigError", "no such choice", std::string(table_) + "." + name);
        target = static_cast<Enum>(value);
        return *this;
    }
    void finish() const {
        if (!given_.empty()) throw Error("ConfigError", "unknown value " + given_.begin()->first, table_);
    }

private:
    Numbers given_;
    std::string table_;
};

Organisation make_organisation(const Numbers& given) {
    Organisation o;
    Fields(given, "organisation")("channels", o.channels)("pseudo_channels", o.pseudo_channels)("ranks", o.ranks)(
        "stack_ids", o.stack_ids)("bank_groups", o.bank_groups)("banks_per_group", o.banks_per_group)("rows", o.rows)(
        "columns", o.columns)("burst_bytes", o.burst_bytes)
        .finish();
    return o;
}

Timing make_timing(const Numbers& given) {
    Timing t;
    Fields(given, "timing")("burst", t.burst)("cl", t.cl)("cwl", t.cwl)("rcd_read", t.rcd_read)("rcd_write", t.rcd_write)(
        "rp", t.rp)("ras", t.ras)("rc", t.rc)("rrd_short", t.rrd_short)("rrd_long", t.rrd_long)("faw", t.faw)("aad", t.aad)(
        "ccd_short", t.ccd_short)("ccd_long", t.ccd_long)("ccd_short_write", t.ccd_short_write)(
        "ccd_long_write", t.ccd_long_write)("ccd_stack", t.ccd_stack)("wtr_short", t.wtr_short)("wtr_long", t.wtr_long)(
        "rtp", t.rtp)("wr", t.wr)("rtw", t.rtw)("rtrs", t.rtrs)("ppd", t.ppd)("rfc", t.rfc)("rfc_bank", t.rfc_bank)(
        "rrefd", t.rrefd)("refi", t.refi)
        .finish();
    return t;
}

Controller make_controller(const Numbers& given) {
    Controller c;
    Fields fields(given, "controller");
    fields("per_bank_queues", c.per_bank_queues)("read_queue", c.read_queue)("write_queue", c.write_queue)(
        "bank_queue", c.bank_queue)("row_hit_cap", c.row_hit_cap)("coalesce_reads", c.coalesce_reads)(
        "coalesce_writes", c.coalesce_writes)("write_high", c.write_high)("write_low", c.write_low)(
        "write_idle", c.write_idle)("refresh_stalls", c.refresh_stalls_rank)("precharge_all", c.precharge_all)(
        "split_bus", c.split_bus)("act_slots", c.act_slots)("pre_slots", c.pre_slots)("read_slots", c.read_slots)(
        "write_slots", c.write_slots)("refresh_slots", c.refresh_slots)("align", c.align)("delay", c.delay);
    fields.choice("rows", c.rows, 3).choice("refresh", c.refresh, 3);
    fields.finish();
    return c;
}

Admission make_admission(const Numbers& given) {
    Admission a;
    Fields(given, "admission")("depth", a.depth)("program_order", a.program_order)("rate", a.rate)(
        "channel_rate", a.channel_rate)("run_ahead", a.run_ahead)
        .finish();
    return a;
}

std::vector<MapSlice> make_map(const MapText& given) {
    const std::map<std::string, Field> names = {{"channel", Field::Channel}, {"pseudo_channel", Field::Pseudo},
                                                {"rank", Field::Rank},       {"stack", Field::Stack},
                                                {"bank_group", Field::Group}, {"bank", Field::Bank},
                                                {"column", Field::Column},   {"row", Field::Row}};
    std::vector<MapSlice> map;
    for (const auto& [name, bits] : given) {
        const auto found = names.find(name);
        if (found == names.end()) throw Error("ConfigError", "unknown field " + name, "address_map");
        map.push_back({found->second, bits});
    }
    return map;
}

DramConfig make_config(const Numbers& organisation, const Numbers& timing, const Numbers& controller,
                       const Numbers& admission, const MapText& map) {
    return {make_organisation(organisation), make_timing(timing), make_controller(controller), make_admission(admission),
            make_map(map)};
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

std::vector<std::tuple<int64_t, int64_t, int64_t, int64_t>> counts(const Dram& dram) {
    std::vector<std::tuple<int64_t, int64_t, int64_t, int64_t>> result;
    for (const StreamCounts& s : dram.counts()) result.emplace_back(s.asked_bytes, s.bursts, s.activations, s.row_hits);
    return result;
}

py::dict latency(const LatencyHistogram& h) {
    using namespace py::literals;
    return py::dict("count"_a = h.count(), "mean"_a = h.mean(), "p50"_a = h.quantile(0.5), "p99"_a = h.quantile(0.99),
                    "max"_a = h.max());
}

py::list streams(const Replay& replay) {
    using namespace py::literals;
    py::list result;
    for (size_t i = 0; i < replay.labels().size(); ++i) {
        const StreamRecord& s = replay.stream(i);
        const StreamCounts c = replay.counts(i);
        result.append(py::dict("label"_a = replay.labels()[i], "requests"_a = s.requests,
                               "requested_bytes"_a = s.requested_bytes, "useful_bytes"_a = replay.useful_bytes(i),
                               "bursts"_a = c.bursts, "absorbed"_a = c.absorbed, "activates"_a = c.activations,
                               "row_hits"_a = c.row_hits, "latency"_a = latency(replay.latency(i))));
    }
    return result;
}

py::dict timeline(const Timeline& t) {
    py::list reads, writes, bursts, hits;
    for (const TimelineSums& bin : t.bins()) {
        reads.append(bin.read_bytes);
        writes.append(bin.write_bytes);
        bursts.append(bin.bursts);
        hits.append(bin.row_hits);
    }
    using namespace py::literals;
    return py::dict("bin_ticks"_a = t.width(), "read_bytes"_a = reads, "write_bytes"_a = writes, "bursts"_a = bursts,
                    "row_hits"_a = hits);
}

// By channel: bursts and activations of each bank.
py::list channels(const Timeline& t) {
    const std::vector<UnitTotals>& banks = t.banks();
    const size_t count = t.channels().size(), each = count == 0 ? 0 : banks.size() / count;
    py::list result;
    for (size_t c = 0; c < count; ++c) {
        py::list bursts, activations;
        for (size_t b = c * each; b < (c + 1) * each; ++b) {
            bursts.append(banks[b].bursts);
            activations.append(banks[b].activations);
        }
        using namespace py::literals;
        result.append(py::dict("bursts"_a = bursts, "activates"_a = activations));
    }
    return result;
}

py::dict record(const Replay& replay) {
    using namespace py::literals;
    const ReplayTotals t = replay.totals();
    return py::dict("ticks"_a = t.ticks, "reads"_a = t.reads, "writes"_a = t.writes, "merged"_a = t.merged,
                    "precharges"_a = t.precharges, "refreshes"_a = t.refreshes, "active_ticks"_a = t.active_ticks,
                    "closed_form_bytes"_a = t.closed_form_bytes, "latency"_a = latency(replay.latency()),
                    "streams"_a = streams(replay), "timeline"_a = timeline(replay.timeline()),
                    "channels"_a = channels(replay.timeline()));
}

void bind_latency(py::module_& m) {
    py::class_<LatencyHistogram>(m, "LatencyHistogram", "Latencies of reads in ticks, in bounded memory.")
        .def(py::init<>())
        .def("merge", &LatencyHistogram::merge, py::arg("other"), py::arg("times") = 1, "Add all of another, so many times.")
        .def("quantile", &LatencyHistogram::quantile, py::arg("q"), "Nearest rank; exact below 4096, then to 1/2048.")
        .def_property_readonly("count", &LatencyHistogram::count)
        .def_property_readonly("mean", &LatencyHistogram::mean)
        .def_property_readonly("max", &LatencyHistogram::max);
}

void bind_dram(py::module_& m) {
    py::class_<Dram>(m, "Dram", "A memory with channels, banks and a first-ready scheduler; times are in its ticks.")
        .def(py::init([](const Numbers& organisation, const Numbers& timing, const Numbers& controller,
                         const Numbers& admission, const MapText& map, int64_t streams) {
                 return std::make_unique<Dram>(make_config(organisation, timing, controller, admission, map), streams);
             }),
             py::arg("organisation"), py::arg("timing"), py::arg("controller"), py::arg("admission"),
             py::arg("address_map"), py::arg("streams"))
        .def("reset", &Dram::reset, py::arg("refresh_phase") = 0,
             "Close all rows and forget all requests and counts; `refresh_phase` ticks since the last refresh.")
        .def("enqueue", &enqueue, py::arg("time"), py::arg("addresses"), py::arg("row_bytes"), py::arg("stream"),
             py::arg("write") = false, "Add a request of equally long rows from tick `time` on; returns its id.")
        .def("run_until", &run_until, py::arg("limit"),
             "Run to tick `limit` or to the first completion before it; returns [(request, first, last)].")
        .def("counts", &counts, "Per stream (asked bytes, bursts, activations, row hits) since the last reset; asked for and moved, that is.")
        .def(
            "latency",
            [](const Dram& dram, int64_t stream) {
                if (stream < 0 || stream >= static_cast<int64_t>(dram.counts().size())) {
                    throw Error("InvalidValueError", "unknown stream " + std::to_string(stream));
                }
                return dram.latency(static_cast<size_t>(stream));
            },
            py::arg("stream"),
            "The latencies of a stream's reads since the last reset, a copy.")
        .def("active_ticks", &Dram::active_ticks, py::arg("now"),
             "Ticks up to `now` with an open row, summed over ranks.")
        .def_property_readonly("precharges", &Dram::precharges)
        .def_property_readonly("refreshes", &Dram::refreshes)
        .def_property_readonly("capacity", &Dram::capacity, "Bytes.")
        .def_property_readonly("now", &Dram::now, "Tick of the last event.");
}

void bind_replay(py::module_& m) {
    py::class_<Replay>(m, "Replay", "Replays a request trace, given as text in pieces of any size.")
        .def(py::init([](const Numbers& organisation, const Numbers& timing, const Numbers& controller,
                         const Numbers& admission, const MapText& map, bool merge, const std::string& source) {
                 return std::make_unique<Replay>(make_config(organisation, timing, controller, admission, map), merge, source);
             }),
             py::arg("organisation"), py::arg("timing"), py::arg("controller"), py::arg("admission"),
             py::arg("address_map"), py::arg("merge"), py::arg("source"))
        .def(
            "feed",
            [](Replay& replay, const py::bytes& text) {
                const std::string_view view = text;
                py::gil_scoped_release release;
                replay.feed(view.data(), view.size());
            },
            py::arg("text"), "Read more of the trace and simulate it.")
        .def("finish", &Replay::finish, py::call_guard<py::gil_scoped_release>(), "The trace is over: serve what waits.")
        .def("record", &record, "What happened, as numbers in ticks and bytes.");
}

}  // namespace

PYBIND11_MODULE(_sim, m) {
    m.doc() = "The simulator's compiled hot loop: DRAM timing and trace replay.";
    py::register_local_exception_translator(translate);
    bind_latency(m);
    bind_dram(m);
    bind_replay(m);
    sparsecore::bindings::bind_bursts(m);
}
