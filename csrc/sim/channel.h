// One DRAM channel: its pseudo-channels, banks and first-ready first-come scheduler.
//
// At each tick at most one column command (read or write) and one row command (activate or precharge) leave the
// channel; its pseudo-channels share both command buses and have a data bus each. Among the bursts in the bounded
// window, the oldest one whose row is open and whose timing allows it goes first; a row with a waiting hit is not closed.
#pragma once

#include <cstdint>
#include <deque>
#include <limits>
#include <vector>

#include "sim/config.h"

namespace sparsecore::sim {

constexpr int64_t kNever = std::numeric_limits<int64_t>::max() / 4;

struct Burst {
    int64_t order = 0;    // position in program order over the whole run
    int64_t arrival = 0;  // tick
    int64_t request = 0;
    int64_t row = 0;
    int32_t pseudo = 0, bank = 0;  // bank: group-major index inside the pseudo-channel
    int32_t stream = 0;
    bool write = false;
};

struct StreamCounts {
    int64_t bursts = 0, activations = 0, row_hits = 0;  // a hit: not the first burst after its row's activation
};

// Told about every served burst: its data ends at tick `done`.
struct Served {
    int64_t order, request, start, done;
};

class Channel {
public:
    Channel(const DramConfig& config, std::vector<StreamCounts>& counts);

    void reset(int64_t refresh_phase);
    void push(const Burst& burst);
    // Does what can be done at tick `now`; served bursts are appended. Bursts with order >= limit may not enter yet.
    void step(int64_t now, int64_t limit, std::vector<Served>& served);
    int64_t next_time() const { return next_; }
    bool held_back() const { return held_back_; }  // the next burst waits for the run-ahead limit
    int64_t first_pending() const { return pending_.front().order; }
    void wake(int64_t at) { next_ = at < next_ ? at : next_; }

private:
    struct Entry {
        int64_t order, request, row;
        int32_t stream;
        bool write;
    };
    struct Bank {
        int64_t open_row = -1, act_ok = 0, pre_ok = 0, read_ok = 0, write_ok = 0;
        bool fresh = false;  // no burst yet since its row was opened
        int hit = -1;        // index in `queue` of the oldest burst of the open row
        std::vector<Entry> queue;
    };
    struct Group {
        int64_t act_ok = 0, read_ok = 0, write_ok = 0;
    };
    struct Pseudo {
        std::vector<Bank> banks;
        std::vector<Group> groups;
        int64_t act_ok = 0, read_ok = 0, write_ok = 0;
        int64_t recent_acts[4] = {-kNever, -kNever, -kNever, -kNever};
        int oldest_act = 0;
        int64_t next_refresh = kNever;
        uint64_t waiting = 0;  // banks with a non-empty queue
    };
    struct Choice {
        int64_t order = kNever;
        int pseudo = -1, bank = -1;
    };

    void admit(int64_t now, int64_t limit);
    void refresh_due(int64_t now);
    void refresh(Pseudo& pseudo, int64_t due);
    void scan(int64_t now, Choice& column, Choice& row);
    void issue_column(const Choice& choice, int64_t now, std::vector<Served>& served);
    void issue_row(const Choice& choice, int64_t now);
    void offer(int64_t ready, int64_t now, int64_t order, int pseudo, int bank, Choice& choice);
    static void find_hit(Bank& bank, size_t from);

    const Organisation& organisation_;
    const Timing& timing_;
    const Admission& admission_;
    std::vector<StreamCounts>& counts_;
    std::vector<Pseudo> pseudos_;
    std::deque<Burst> pending_;
    int64_t waiting_ = 0, next_admission_ = 0, column_free_ = 0, row_free_ = 0, next_ = kNever;
    int64_t soonest_ = kNever;  // earliest tick at which a candidate seen by the last scan becomes ready
    bool held_back_ = false;
};

}  // namespace sparsecore::sim
