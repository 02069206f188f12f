#include "sim/refresher.h"

namespace sparsecore::sim {

Refresher::Refresher(const DramConfig& config, CommandPort& port)
    : port_(port), mode_(config.timing.refi > 0 ? config.controller.refresh : Refresh::None),
      stall_rank_(config.controller.refresh_stalls_rank), precharge_all_(config.controller.precharge_all),
      units_(static_cast<int>(config.organisation.units())), interval_(config.timing.refi) {
    if (mode_ == Refresh::PerBank) {
        const int64_t banks = config.organisation.banks();
        interval_ = (interval_ + banks - 1) / banks;
    }
    reset(0);
}

void Refresher::reset(int64_t phase) {
    due_.clear();
    next_bank_ = 0;
    next_due_ = mode_ == Refresh::None ? kNever : interval_ - phase % interval_;
}

void Refresher::advance(int64_t now) {
    for (; next_due_ <= now; next_due_ += interval_) {
        for (int unit = 0; unit < units_; ++unit) {
            due_.push_back({unit, mode_ == Refresh::PerBank ? unit * port_.device().banks_per_unit() + next_bank_ : -1});
        }
        next_bank_ = (next_bank_ + 1) % port_.device().banks_per_unit();
    }
}

void Refresher::skip(int64_t until) {
    if (mode_ == Refresh::None) return;
    const int64_t banks = port_.device().banks_per_unit();
    const int64_t simulated = 2 + (mode_ == Refresh::PerBank ? banks : 0);  // what the next commands may wait for
    const int64_t skipped = (until - next_due_) / interval_ - simulated;
    if (skipped <= 0) return;
    next_due_ += skipped * interval_;
    next_bank_ = static_cast<int>((next_bank_ + skipped) % banks);
    port_.count_refreshes(skipped * units_);
}

bool Refresher::awaits(int bank) const {
    for (const Due& due : due_) {
        if (due.bank < 0 ? port_.device().unit(bank) == due.unit : bank == due.bank) return true;
    }
    return false;
}

}  // namespace sparsecore::sim
