// What the timing model of a DRAM needs to know. All times are in ticks of the command clock.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sparsecore::sim {

struct Organisation {
    int64_t channels = 1, pseudo_channels = 1, ranks = 1, stack_ids = 1, bank_groups = 1, banks_per_group = 1;
    int64_t rows = 1, columns = 1;  // columns: bursts in a row
    int64_t burst_bytes = 32;

    // A "unit" is a rank of a pseudo-channel: what is refreshed together and shares tFAW.
    int64_t units() const { return pseudo_channels * ranks; }
    int64_t groups() const { return stack_ids * bank_groups; }       // of a unit
    int64_t banks() const { return groups() * banks_per_group; }     // of a unit
    int64_t channel_banks() const { return units() * banks(); }
};

// Times count from the last clock of a command to the last clock of the next one.
struct Timing {
    int64_t burst = 0, cl = 0, cwl = 0;  // burst: time the data bus is held
    int64_t rcd_read = 0, rcd_write = 0, rp = 0, ras = 0, rc = 0;
    int64_t rrd_short = 0, rrd_long = 0, faw = 0;
    int64_t aad = 0;  // an activation is two commands, the second at most so much later; 0: it is one
    int64_t ccd_short = 0, ccd_long = 0, ccd_short_write = 0, ccd_long_write = 0, ccd_stack = 0;
    int64_t wtr_short = 0, wtr_long = 0, rtp = 0, wr = 0;
    int64_t rtw = 0;   // read to write command
    int64_t rtrs = 0;  // idle time of the data bus between ranks
    int64_t ppd = 0;   // precharge to precharge
    int64_t rfc = 0, rfc_bank = 0, rrefd = 0, refi = 0;
};

enum class Rows { Open = 0, Closed = 1, Adaptive = 2 };
enum class Refresh { None = 0, AllBank = 1, PerBank = 2 };

struct Controller {
    bool per_bank_queues = false;
    int64_t read_queue = 64, write_queue = 64, bank_queue = 8;
    int64_t row_hit_cap = 0;  // bursts per activation while others wait for the bank; 0: no cap
    bool coalesce_reads = false, coalesce_writes = false;  // with a waiting one of the same line
    Rows rows = Rows::Open;
    int64_t write_high = 52, write_low = 12, write_idle = 1;
    Refresh refresh = Refresh::AllBank;
    bool refresh_stalls_rank = false;  // otherwise the whole channel
    bool precharge_all = true;
    bool split_bus = true;
    int64_t act_slots = 1, pre_slots = 1, read_slots = 1, write_slots = 1, refresh_slots = 1;
    int64_t align = 1;
    int64_t delay = 0;
};

struct Admission {
    int64_t depth = 64;        // bursts in the FIFO in front of a channel (program order only)
    bool program_order = true;  // a full FIFO holds back all later bursts; otherwise only its own channel's
    int64_t rate = 64;         // bursts that enter the FIFOs in a tick (program order only)
    int64_t channel_rate = 0;  // bursts that a channel takes from its FIFO in a tick; 0: no bound
    int64_t run_ahead = 0;     // how far a burst may enter ahead of the oldest one not yet served; 0: no bound
};

enum class Field { Channel, Pseudo, Rank, Stack, Group, Bank, Column, Row };
constexpr int kFields = 8;
struct MapSlice {
    Field field;
    int bits;
};

struct DramConfig {
    Organisation organisation;
    Timing timing;
    Controller controller;
    Admission admission;
    std::vector<MapSlice> map;  // least significant slice first, above the bits inside a burst
};

// Raises core::Error("ConfigError") naming the value that is out of range or contradicts another.
void validate(const DramConfig& config);

}  // namespace sparsecore::sim
