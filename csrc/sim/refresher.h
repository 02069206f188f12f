// Refreshes that are due in a channel: closes the rows in their way and sends them.
#pragma once

#include <cstdint>
#include <deque>

#include "sim/command_port.h"

namespace sparsecore::sim {

class Refresher {
public:
    Refresher(const DramConfig& config, CommandPort& port);

    // Forgets what is due; `phase` ticks have passed since the last refresh.
    void reset(int64_t phase);

    // Notes what has become due up to tick `now`. Refreshes of all units fall due together.
    void advance(int64_t now);
    int64_t next_due() const { return next_due_; }
    // Counts the refreshes of an idle time up to tick `until`, all rows closed, but for the last ones.
    void skip(int64_t until);

    // May nothing new be started on this bank until its refresh is sent?
    bool stalls(int bank) const { return !due_.empty() && (!stall_rank_ || awaits(bank)); }
    bool stalls_channel() const { return !stall_rank_ && !due_.empty(); }
    bool waiting() const { return !due_.empty(); }

    // Sends what the oldest refresh needs next, if it can be sent now. `held(bank)` tells which open rows must stay.
    template <typename Held>
    bool issue(Soonest& soonest, Held held);

private:
    struct Due {
        int unit, bank;  // bank -1: the whole unit
    };

    bool awaits(int bank) const;
    template <typename Held>
    bool close_rows(Soonest& soonest, const Due& due, Held held);

    CommandPort& port_;
    Refresh mode_;
    bool stall_rank_, precharge_all_;
    int units_;
    int64_t interval_, next_due_ = kNever;
    int next_bank_ = 0;  // inside its unit, per-bank refresh
    std::deque<Due> due_;
};

template <typename Held>
bool Refresher::issue(Soonest& soonest, Held held) {
    if (due_.empty()) return false;
    const Due due = due_.front();
    const Device& device = port_.device();
    if (due.bank < 0 ? device.any_open(due.unit) : device.open(due.bank)) return close_rows(soonest, due, held);
    const int64_t ready = due.bank < 0 ? device.refresh_ready(due.unit) : device.refresh_bank_ready(due.bank);
    if (!soonest.reached(port_.available(Kind::Refresh, ready))) return false;
    if (due.bank < 0) {
        port_.refresh(due.unit, soonest.now);
    } else {
        port_.refresh_bank(due.bank, soonest.now);
    }
    due_.pop_front();
    return true;
}

template <typename Held>
bool Refresher::close_rows(Soonest& soonest, const Due& due, Held held) {
    const Device& device = port_.device();
    const int first = due.bank < 0 ? due.unit * device.banks_per_unit() : due.bank;
    const int last = due.bank < 0 ? first + device.banks_per_unit() : due.bank + 1;
    if (due.bank < 0 && precharge_all_) {
        for (int b = first; b < last; ++b) {
            if (device.open(b) && held(b)) return false;
        }
        if (!soonest.reached(port_.available(Kind::Precharge, device.precharge_all_ready(due.unit)))) return false;
        port_.precharge_all(due.unit, soonest.now);
        return true;
    }
    for (int b = first; b < last; ++b) {
        if (!device.open(b) || held(b) || !soonest.reached(port_.precharge_ready(b))) continue;
        port_.precharge(b, soonest.now);
        return true;
    }
    return false;
}

}  // namespace sparsecore::sim
