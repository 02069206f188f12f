// What orders the bursts that a channel's controller has accepted.
#pragma once

#include <memory>
#include <vector>

#include "sim/command_port.h"
#include "sim/refresher.h"

namespace sparsecore::sim {

class Scheduler {
public:
    virtual ~Scheduler() = default;

    virtual void reset() = 0;
    virtual bool empty() const = 0;

    // Can a read (write) be accepted?
    virtual bool room(bool write) const = 0;
    virtual void accept(const Burst& burst) = 0;

    // Does a read (write) of this burst's line wait?
    virtual bool waits(const Burst& burst, bool write) const = 0;

    // Sends what can be sent at tick `soonest.now` and appends the bursts served; true if anything changed. `last`: no
    // further burst is on its way to this channel, or the next one is held back until an older one is served.
    virtual bool step(Soonest& soonest, bool last, std::vector<Served>& served) = 0;
};

// One window over all banks, the oldest first (shared_queue.cpp), or a queue for each bank, in turn (bank_queues.cpp).
std::unique_ptr<Scheduler> make_shared_queue(const DramConfig& config, CommandPort& port, Refresher& refresher);
std::unique_ptr<Scheduler> make_bank_queues(const DramConfig& config, CommandPort& port, Refresher& refresher);

}  // namespace sparsecore::sim
