// Small memories for the tests of the timing model.
#pragma once

#include <algorithm>

#include "harness.h"
#include "sim/config.h"

namespace sim_config {

using namespace sparsecore::sim;

// Two channels of two pseudo-channels, four banks each.
inline DramConfig small() {
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
    t.rfc_bank = 9;
    t.rrefd = 2;
    t.refi = 400;
    c.admission.depth = 8;
    c.admission.run_ahead = 16;
    c.map = {{Field::Channel, 1}, {Field::Pseudo, 1}, {Field::Group, 1}, {Field::Column, 2}, {Field::Bank, 1}, {Field::Row, 4}};
    return c;
}

inline bool coin() { return harness::integer(0, 1) != 0; }

inline void random_controller(Controller& c) {
    c.per_bank_queues = coin();
    c.read_queue = harness::pick<int64_t>({1, 3, 16});
    c.write_queue = harness::pick<int64_t>({2, 16});
    c.bank_queue = harness::pick<int64_t>({1, 8});
    c.row_hit_cap = harness::pick<int64_t>({0, 1, 4});
    c.coalesce_reads = coin();
    c.coalesce_writes = coin();
    c.rows = harness::pick<Rows>({Rows::Open, Rows::Closed, Rows::Adaptive});
    c.write_high = harness::integer(1, c.write_queue);
    c.write_low = harness::integer(0, c.write_high - 1);
    c.write_idle = harness::pick<int64_t>({1, 5});
    c.refresh = harness::pick<Refresh>({Refresh::None, Refresh::AllBank, Refresh::PerBank});
    c.refresh_stalls_rank = coin();
    c.precharge_all = coin();
    c.split_bus = coin();
    for (int64_t* slots : {&c.act_slots, &c.pre_slots, &c.read_slots, &c.write_slots, &c.refresh_slots}) {
        *slots = harness::integer(0, 3);
    }
    c.align = harness::integer(1, 2);
    c.delay = harness::pick<int64_t>({0, 7});
}

// All policies, with ranks, stack ids and an activation of two commands.
inline DramConfig random_config() {
    DramConfig c = small();
    Organisation& o = c.organisation;
    o.ranks = harness::integer(1, 2);
    o.stack_ids = harness::integer(1, 2);
    c.map.push_back({Field::Rank, static_cast<int>(o.ranks - 1)});
    c.map.push_back({Field::Stack, static_cast<int>(o.stack_ids - 1)});
    std::shuffle(c.map.begin(), c.map.end(), harness::random());
    random_controller(c.controller);
    Timing& t = c.timing;
    t.rtrs = harness::integer(0, 3);
    t.ppd = harness::integer(0, 2);
    t.ccd_stack = harness::integer(2, 4);
    t.aad = c.controller.split_bus || c.controller.per_bank_queues ? 0 : harness::integer(0, 4);
    t.refi = 400 * (c.controller.refresh == Refresh::PerBank ? o.banks() : 1);
    Admission& a = c.admission;
    a.program_order = coin();
    a.depth = harness::pick<int64_t>({1, 64});
    a.rate = harness::pick<int64_t>({1, 64});
    a.channel_rate = harness::integer(0, 2);
    a.run_ahead = harness::pick<int64_t>({0, 1, 16});
    return c;
}

}  // namespace sim_config
