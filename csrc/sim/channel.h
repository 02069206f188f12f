// One DRAM channel: the FIFO in front of its controller, the scheduler, refresh, and the device behind them.
//
// In a tick, in this order: refreshes fall due; bursts move from the FIFO into the scheduler while it has room; the
// scheduler sends commands. A read of a line that waits to be written is answered from the queue; where the controller
// coalesces, so is a burst of a line that a waiting one of the same direction will move.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "sim/command_port.h"
#include "sim/refresher.h"
#include "sim/scheduler.h"

namespace sparsecore::sim {

class Channel {
public:
    Channel(const DramConfig& config, std::vector<StreamCounts>& streams);

    void reset(int64_t refresh_phase);
    void push(const Burst& burst) {
        fifo_.push_back(burst);
        wake(burst.time);
    }
    int64_t fifo_size() const { return static_cast<int64_t>(fifo_.size()); }

    // Does what can be done at tick `now`; served bursts are appended. Bursts with order >= limit may not enter yet.
    void step(int64_t now, int64_t limit, std::vector<Served>& served);

    // Nothing comes before tick `until`: an idle channel does not visit each refresh until then.
    void skip_idle(int64_t until);

    int64_t next_time() const { return next_; }
    void wake(int64_t at) { next_ = at < next_ ? at : next_; }
    // The next burst waits for the run-ahead limit.
    bool held_back() const { return held_back_; }
    int64_t first_waiting() const { return fifo_.front().order; }
    int64_t first_time() const { return fifo_.empty() ? kNever : fifo_.front().time; }

    int64_t precharges() const { return port_.precharges(); }
    int64_t refreshes() const { return port_.refreshes(); }
    int64_t active_ticks(int64_t now) const { return port_.device().active_ticks(now); }

private:
    bool take(int64_t now, int64_t limit, std::vector<Served>& served);
    bool absorb(const Burst& burst, int64_t now, std::vector<Served>& served);
    void finish_attached(size_t from, std::vector<Served>& served);

    Admission admission_;
    Controller controller_;
    std::vector<StreamCounts>& streams_;
    CommandPort port_;
    Refresher refresher_;
    std::unique_ptr<Scheduler> scheduler_;
    std::deque<Burst> fifo_;
    std::vector<Burst> attached_;  // reads that wait for the data of another read of their line
    int64_t next_ = kNever, accepted_ = 0;
    bool held_back_ = false;
};

}  // namespace sparsecore::sim
