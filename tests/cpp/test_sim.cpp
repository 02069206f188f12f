// The DRAM timing model without Python: refusals, sizes at the edge, and requests on random streams.
#include <vector>

#include "harness.h"
#include "sim/dram.h"

using namespace sparsecore::sim;

namespace {

DramConfig small() {
    DramConfig c;
    c.organisation = {2, 2, 1, 1, 2, 2, 16, 4, 32};
    Timing& t = c.timing;
    t.rcd_read = t.rcd_write = 4;
    t.rp = 3;
    t.ras = 9;
    t.rc = 12;
    t.rrd_short = t.rrd_long = 2;
    t.faw = 10;
    t.ccd_short = t.ccd_short_write = t.ccd_stack = t.burst = 2;
    t.ccd_long = t.ccd_long_write = 4;
    t.wtr_short = t.wtr_long = 3;
    t.rtp = 2;
    t.wr = 5;
    t.rtw = 4;
    t.cl = 5;
    t.cwl = 3;
    t.rfc = 20;
    t.refi = 200;
    c.admission.depth = 8;
    c.admission.run_ahead = 16;
    c.map = {{Field::Channel, 1}, {Field::Pseudo, 1}, {Field::Group, 1}, {Field::Column, 2}, {Field::Bank, 1}, {Field::Row, 4}};
    return c;
}

}  // namespace

TEST(dram_idle_read) {
    Dram dram(small(), 1);
    const int64_t address = 0;
    dram.enqueue(0, &address, 1, 32, 0, false);
    const auto done = dram.run_until(kNever);
    CHECK(done.size() == 1);
    CHECK(done[0].first == 1 + 4 + 5);  // in the tick after it was dispatched
    CHECK(done[0].last == 1 + 4 + 5 + 2);
}

TEST(dram_serves_every_burst_once) {
    Dram dram(small(), 3);
    for (int round = 0; round < 20; ++round) {
        dram.reset(harness::integer(0, 400));
        int64_t bursts[3] = {};
        int64_t time = 0;
        size_t finished = 0;
        const int64_t requests = harness::integer(0, 12);
        for (int64_t r = 0; r < requests; ++r) {
            const int64_t stream = harness::integer(0, 2), rows = harness::integer(0, 30);
            std::vector<int64_t> addresses;
            int64_t previous = -1;
            for (int64_t i = 0; i < rows; ++i) {
                addresses.push_back(harness::integer(0, dram.capacity() / 32 - 1) * 32);
                bursts[stream] += addresses.back() != previous;
                previous = addresses.back();
            }
            dram.enqueue(time, addresses.data(), rows, 32, stream, harness::integer(0, 1) != 0);
            time += harness::integer(0, 40);
            finished += dram.run_until(time).size();
            time = dram.now() > time ? dram.now() : time;
        }
        for (size_t before = finished + 1; before != finished;) {
            before = finished;
            finished += dram.run_until(kNever).size();
        }
        CHECK(finished == static_cast<size_t>(requests));
        for (size_t s = 0; s < 3; ++s) {
            const StreamCounts& counts = dram.counts()[s];
            CHECK(counts.bursts + counts.absorbed == bursts[s]);
            CHECK(counts.row_hits + counts.activations >= counts.bursts);
        }
    }
}

TEST(dram_refuses_what_it_cannot_do) {
    Dram dram(small(), 1);
    const int64_t outside[2] = {dram.capacity(), -32};
    CHECK_ERROR("InvalidValueError", dram.enqueue(0, &outside[0], 1, 32, 0, false));
    CHECK_ERROR("InvalidValueError", dram.enqueue(0, &outside[1], 1, 32, 0, false));
    const int64_t last = dram.capacity() - 32;
    CHECK_ERROR("InvalidValueError", dram.enqueue(0, &last, 1, 33, 0, false));
    CHECK_ERROR("InvalidValueError", dram.enqueue(0, &last, 1, -1, 0, false));
    CHECK_ERROR("InvalidValueError", dram.enqueue(0, &last, 1, 32, 1, false));
    dram.enqueue(50, &last, 1, 32, 0, false);
    CHECK(dram.run_until(kNever).size() == 1);
    CHECK_ERROR("InvalidValueError", dram.enqueue(0, &last, 1, 32, 0, false));  // in the past
}

TEST(dram_refuses_contradicting_configurations) {
    auto broken = [](auto change) {
        DramConfig config = small();
        change(config);
        CHECK_ERROR("ConfigError", Dram(config, 1));
    };
    broken([](DramConfig& c) { c.organisation.channels = 3; });
    broken([](DramConfig& c) { c.organisation.rows = 0; });
    broken([](DramConfig& c) { c.map.pop_back(); });
    broken([](DramConfig& c) { c.map.push_back({Field::Row, 1}); });
    broken([](DramConfig& c) { c.map[0].bits = -1; });
    broken([](DramConfig& c) { c.timing.burst = 0; });
    broken([](DramConfig& c) { c.timing.ras = 1; });
    broken([](DramConfig& c) { c.timing.cl = -1; });
    broken([](DramConfig& c) { c.timing.refi = 30; });
    broken([](DramConfig& c) { c.admission.depth = 0; });
    broken([](DramConfig& c) { c.admission.run_ahead = -1; });
}
