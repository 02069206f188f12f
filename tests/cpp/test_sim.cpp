// The DRAM timing model without Python: refusals, sizes at the edge, and requests on random configurations.
#include <set>
#include <vector>

#include "harness.h"
#include "sim/dram.h"
#include "sim_config.h"

using namespace sparsecore::sim;
using sim_config::random_config;
using sim_config::small;

namespace {

// Notes each burst by its place in the program, which tells them apart.
class Notes final : public Observer {
public:
    void served(const Served& served, int) override {
        CHECK(orders.insert(served.burst.order).second);
        CHECK(served.burst.accepted >= 0 && served.start > served.burst.accepted);
        CHECK(served.absorbed || served.done > served.start);
        absorbed += served.absorbed ? 1 : 0;
    }
    void merged(const Burst&, int32_t low, int32_t high) override {
        CHECK(0 <= low && low < high);
        ++joined;
    }
    std::set<int64_t> orders;
    int64_t absorbed = 0, joined = 0;
};

size_t finish_all(Dram& dram) {
    size_t finished = 0;
    for (size_t before = 1; before != finished;) {
        before = finished;
        finished += dram.run_until(kNever - 1).size();
    }
    return finished;
}

}  // namespace

TEST(dram_idle_read) {
    for (const bool program_order : {false, true}) {
        DramConfig config = small();
        config.admission.program_order = program_order;
        Dram dram(config, 1);
        const int64_t address = 0;
        dram.enqueue(0, &address, 1, 32, 0, false);
        const auto done = dram.run_until(kNever);
        const int64_t start = program_order ? 1 : 0;  // seen in the tick after it was dispatched
        CHECK(done.size() == 1);
        CHECK(done[0].first == start + 4 + 5);
        CHECK(done[0].last == start + 4 + 5 + 2);
    }
}

TEST(dram_serves_every_burst_once) {
    for (int round = 0; round < 200; ++round) {
        Dram dram(random_config(), 3);
        dram.reset(harness::integer(0, 400));
        Notes notes;
        dram.observe(&notes);
        int64_t bursts[3] = {};
        int64_t time = 0;
        size_t finished = 0;
        const int64_t requests = harness::integer(0, 12);
        const int64_t lines = harness::pick<int64_t>({8, dram.capacity() / 32});
        for (int64_t r = 0; r < requests; ++r) {
            const int64_t stream = harness::integer(0, 2), rows = harness::integer(0, 30);
            std::vector<int64_t> addresses;
            int64_t previous = -1;
            for (int64_t i = 0; i < rows; ++i) {
                addresses.push_back(harness::integer(0, lines - 1) * 32);
                bursts[stream] += addresses.back() != previous;
                previous = addresses.back();
            }
            dram.enqueue(time, addresses.data(), rows, 32, stream, harness::integer(0, 1) != 0);
            time += harness::integer(0, 40);
            finished += dram.run_until(time).size();
            time = dram.now() > time ? dram.now() : time;
        }
        finished += finish_all(dram);
        CHECK(finished == static_cast<size_t>(requests));
        int64_t absorbed = 0;
        for (size_t s = 0; s < 3; ++s) {
            const StreamCounts& counts = dram.counts()[s];
            CHECK(counts.bursts + counts.absorbed == bursts[s]);
            CHECK(counts.row_hits <= counts.bursts);
            CHECK(counts.asked_bytes >= 32 * counts.bursts);
            absorbed += counts.absorbed;
        }
        CHECK(static_cast<int64_t>(notes.orders.size()) == bursts[0] + bursts[1] + bursts[2]);
        CHECK(notes.orders.empty() || *notes.orders.rbegin() + 1 == static_cast<int64_t>(notes.orders.size()));
        CHECK(notes.absorbed == absorbed);
    }
}

TEST(dram_program_without_ids) {
    for (int round = 0; round < 100; ++round) {
        DramConfig config = random_config();
        config.admission.program_order = true;
        Dram dram(config, 2);
        Notes notes;
        dram.observe(&notes);
        int64_t pieces = 0, time = 0;
        for (int64_t r = harness::integer(0, 40); r > 0; --r) {
            const int64_t bytes = harness::integer(0, 200), address = harness::integer(0, dram.capacity() - bytes);
            dram.append(time, address, bytes, harness::integer(0, 1), harness::integer(0, 1) != 0, harness::integer(0, 1) != 0);
            pieces += bytes == 0 ? 0 : (address + bytes - 1) / 32 - address / 32 + 1;
            time += harness::integer(0, 30);
            if (harness::integer(0, 5) == 0) dram.run_program(harness::integer(0, 10));
        }
        dram.run_program(-1);
        CHECK(dram.program_size() == 0);
        CHECK(static_cast<int64_t>(notes.orders.size()) + notes.joined == pieces);
        CHECK(dram.merged() == notes.joined);
        CHECK(dram.active_ticks(dram.last_data()) <= dram.last_data() * 2 * config.organisation.units());
    }
}

TEST(dram_sizes_at_the_edge) {
    DramConfig config = small();
    config.organisation = {1, 1, 1, 1, 1, 1, 1, 1, 32};
    config.map = {};
    config.controller.refresh = Refresh::None;
    Dram one(config, 1);  // a memory of one burst
    CHECK(one.capacity() == 32);
    const int64_t addresses[3] = {0, 31, 0};
    one.enqueue(0, addresses, 2, 1, 0, false);
    one.enqueue(0, &addresses[2], 1, 32, 0, true);
    CHECK(finish_all(one) == 2);
    CHECK(one.counts()[0].bursts == 2);
    CHECK(one.counts()[0].asked_bytes == 1 + 1 + 32);

    config.organisation = {1024, 1, 1, 1, 1, 1, 2, 2, 32};
    config.map = {{Field::Channel, 10}, {Field::Row, 1}, {Field::Column, 1}};
    Dram wide(config, 1);
    const int64_t whole = 0;
    wide.enqueue(0, &whole, 1, wide.capacity(), 0, false);
    CHECK(finish_all(wide) == 1);
    CHECK(wide.counts()[0].bursts == 4096);
}

TEST(dram_refuses_what_it_cannot_do) {
    Dram dram(small(), 1);
    const int64_t outside[2] = {dram.capacity(), -32};
    CHECK_ERROR("InvalidValueError", dram.enqueue(0, &outside[0], 1, 32, 0, false));
    CHECK_ERROR("InvalidValueError", dram.enqueue(0, &outside[1], 1, 32, 0, false));
    CHECK_ERROR("InvalidValueError", dram.append(0, outside[0], 1, 0, false, true));
    const int64_t last = dram.capacity() - 32;
    CHECK_ERROR("InvalidValueError", dram.enqueue(0, &last, 1, 33, 0, false));
    CHECK_ERROR("InvalidValueError", dram.enqueue(0, &last, 1, -1, 0, false));
    CHECK_ERROR("InvalidValueError", dram.enqueue(0, &last, 1, 32, 1, false));
    CHECK_ERROR("InvalidValueError", dram.append(0, last, 32, -1, false, true));
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
    broken([](DramConfig& c) { c.organisation.ranks = 2; });
    broken([](DramConfig& c) { c.organisation.stack_ids = 2; });
    broken([](DramConfig& c) { c.organisation.rows = 0; });
    broken([](DramConfig& c) { c.organisation.burst_bytes = 48; });
    broken([](DramConfig& c) { c.map.pop_back(); });
    broken([](DramConfig& c) { c.map.push_back({Field::Row, 1}); });
    broken([](DramConfig& c) { c.map[0].bits = -1; });
    broken([](DramConfig& c) { c.timing.burst = 0; });
    broken([](DramConfig& c) { c.timing.ras = 1; });
    broken([](DramConfig& c) { c.timing.rc = 11; });
    broken([](DramConfig& c) { c.timing.cl = -1; });
    broken([](DramConfig& c) { c.timing.rtw = -1; });
    broken([](DramConfig& c) { c.timing.ccd_long = 1; });
    broken([](DramConfig& c) { c.timing.rrd_long = 1; });
    broken([](DramConfig& c) { c.timing.refi = 30; });
    broken([](DramConfig& c) {
        c.controller.refresh = Refresh::PerBank;
        c.timing.refi = 40;  // a bank every 10 ticks
        c.timing.rrefd = 10;
    });
    broken([](DramConfig& c) { c.controller.refresh_slots = 200; });
    broken([](DramConfig& c) { c.timing.faw = int64_t{1} << 40; });
    broken([](DramConfig& c) { c.timing.aad = 2; });  // with a split bus
    broken([](DramConfig& c) { c.controller.read_queue = 0; });
    broken([](DramConfig& c) { c.controller.bank_queue = 0; });
    broken([](DramConfig& c) { c.controller.write_high = 65; });
    broken([](DramConfig& c) { c.controller.write_low = 52; });
    broken([](DramConfig& c) { c.controller.write_idle = 0; });
    broken([](DramConfig& c) { c.controller.act_slots = -1; });
    broken([](DramConfig& c) { c.controller.align = 3; });
    broken([](DramConfig& c) { c.controller.delay = -1; });
    broken([](DramConfig& c) { c.admission.depth = 0; });
    broken([](DramConfig& c) { c.admission.rate = 0; });
    broken([](DramConfig& c) { c.admission.channel_rate = -1; });
    broken([](DramConfig& c) { c.admission.run_ahead = -1; });
}
