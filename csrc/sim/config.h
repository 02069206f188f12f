// What the timing model of a DRAM needs to know. All times are in ticks of the command clock.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sparsecore::sim {

struct Organisation {
    int64_t channels = 1, pseudo_channels = 1, bank_groups = 1, banks_per_group = 1;
    int64_t rows = 1, columns = 1;  // bursts per row
    int64_t burst_bytes = 32;
    int64_t banks() const { return bank_groups * banks_per_group; }
};

struct Timing {
    int64_t rcd_read = 0, rcd_write = 0, rp = 0, ras = 0, rrd_short = 0, rrd_long = 0, faw = 0;
    int64_t ccd_short = 0, ccd_long = 0, wtr_short = 0, wtr_long = 0, rtp = 0, wr = 0, rtw = 0;
    int64_t cl = 0, cwl = 0, burst = 0;  // burst: time the data bus is held
    int64_t rfc = 0, refi = 0;           // refi 0: no refresh
    int64_t act_slots = 1, pre_slots = 1;  // row-command bus slots of an ACT and of a PRE
};

struct Admission {
    int64_t depth = 64;       // bursts waiting in a channel's scheduler, at most
    int64_t run_ahead = 2048;  // how far a burst may enter ahead of the oldest one not yet served
};

enum class Field { Channel, Pseudo, Group, Bank, Column, Row };
struct MapSlice {
    Field field;
    int bits;
};

struct DramConfig {
    Organisation organisation;
    Timing timing;
    Admission admission;
    std::vector<MapSlice> map;  // least significant slice first, above the bits inside a burst
};

// Raises core::Error("ConfigError") naming the value that is out of range or contradicts another.
void validate(const DramConfig& config);

}  // namespace sparsecore::sim
