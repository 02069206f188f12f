#include "sim/channel.h"

#include <algorithm>

namespace sparsecore::sim {

Channel::Channel(const DramConfig& config, std::vector<StreamCounts>& streams)
    : admission_(config.admission), controller_(config.controller), streams_(streams), port_(config, streams),
      refresher_(config, port_),
      scheduler_(config.controller.per_bank_queues ? make_bank_queues(config, port_, refresher_)
                                                   : make_shared_queue(config, port_, refresher_)) {
    reset(0);
}

void Channel::reset(int64_t refresh_phase) {
    port_.reset();
    refresher_.reset(refresh_phase);
    scheduler_->reset();
    fifo_.clear();
    attached_.clear();
    next_ = refresher_.next_due();
    accepted_ = 0;
    held_back_ = false;
}

void Channel::step(int64_t now, int64_t limit, std::vector<Served>& served) {
    port_.start_tick(now);
    refresher_.advance(now);
    const bool more = take(now, limit, served);
    Soonest soonest{now};
    const size_t before = served.size();
    const bool changed = scheduler_->step(soonest, fifo_.empty() || held_back_, served);
    if (!attached_.empty()) finish_attached(before, served);
    next_ = changed || more ? now + 1 : soonest.at;
    wake(refresher_.next_due());
    if (!fifo_.empty() && fifo_.front().time > now) wake(fifo_.front().time);
}

void Channel::skip_idle(int64_t until) {
    until = std::min(until, first_time());
    if (!scheduler_->empty() || refresher_.waiting() || port_.device().any_open()) return;
    refresher_.skip(until);
    next_ = std::min(refresher_.next_due(), first_time());
}

// Returns whether bursts are left for the next tick's share.
bool Channel::take(int64_t now, int64_t limit, std::vector<Served>& served) {
    held_back_ = false;
    for (int64_t taken = 0; !fifo_.empty() && fifo_.front().time <= now; ++taken) {
        Burst& burst = fifo_.front();
        if (burst.order >= limit) {
            held_back_ = true;
            return false;
        }
        if (admission_.channel_rate > 0 && taken == admission_.channel_rate) return true;
        burst.accepted = now;
        if (!absorb(burst, now, served)) {
            if (!scheduler_->room(burst.write)) return false;  // a command makes room; the tick after it is visited
            burst.sequence = accepted_++;
            scheduler_->accept(burst);
        }
        fifo_.pop_front();
    }
    return false;
}

bool Channel::absorb(const Burst& burst, int64_t now, std::vector<Served>& served) {
    const bool coalesce = burst.write ? controller_.coalesce_writes : controller_.coalesce_reads;
    if ((coalesce || !burst.write) && scheduler_->waits(burst, true)) {
        const int64_t done = now + 1 + controller_.delay;
        served.push_back({burst, done, done, false, true});
    } else if (coalesce && !burst.write && scheduler_->waits(burst, false)) {
        attached_.push_back(burst);
    } else {
        return false;
    }
    ++streams_[static_cast<size_t>(burst.stream)].absorbed;
    return true;
}

// Gives the reads attached to the bursts served from position `from` on their data.
void Channel::finish_attached(size_t from, std::vector<Served>& served) {
    for (size_t i = from, end = served.size(); i < end; ++i) {
        for (size_t a = 0; a < attached_.size();) {
            const Burst burst = attached_[a];
            if (served[i].burst.write || burst.line != served[i].burst.line) {
                ++a;
                continue;
            }
            served.push_back({burst, served[i].start, served[i].done, false, true});
            attached_.erase(attached_.begin() + static_cast<std::ptrdiff_t>(a));
        }
    }
}

}  // namespace sparsecore::sim
