#include "sim/device.h"

#include <algorithm>

namespace sparsecore::sim {
namespace {

void raise(int64_t& value, int64_t floor) { value = std::max(value, floor); }
int64_t last_clock(int64_t slots) { return std::max<int64_t>(slots, 1) - 1; }

}  // namespace

Device::Device(const DramConfig& config) : timing_(config.timing) {
    const Organisation& o = config.organisation;
    ranks_ = static_cast<int>(o.ranks);
    groups_per_unit_ = static_cast<int>(o.groups());
    groups_per_stack_ = static_cast<int>(o.bank_groups);
    banks_per_unit_ = static_cast<int>(o.banks());
    for (int b = 0; b < static_cast<int>(o.channel_banks()); ++b) {
        unit_of_.push_back(b / banks_per_unit_);
        group_of_.push_back(b / static_cast<int>(o.banks_per_group));
    }
    const Controller& c = config.controller;
    late_ = {last_clock(c.act_slots), last_clock(c.pre_slots), last_clock(c.read_slots), last_clock(c.write_slots),
             last_clock(c.refresh_slots)};
    // The bus holds one burst at a time, whatever the command spacing allows.
    for (int64_t* ccd : {&timing_.ccd_short, &timing_.ccd_long, &timing_.ccd_short_write, &timing_.ccd_long_write,
                         &timing_.ccd_stack}) {
        raise(*ccd, timing_.burst);
    }
    banks_.resize(static_cast<size_t>(o.channel_banks()));
    groups_.resize(static_cast<size_t>(o.units() * o.groups()));
    units_.resize(static_cast<size_t>(o.units()));
    reset();
}

void Device::reset() {
    std::fill(banks_.begin(), banks_.end(), Bank{});
    std::fill(groups_.begin(), groups_.end(), Group{});
    Unit unit;
    unit.recent_acts.fill(-kNever);
    std::fill(units_.begin(), units_.end(), unit);
}

int64_t Device::precharge_all_ready(int unit) const {
    int64_t ready = units_[index(unit)].pre;
    for (int b = unit * banks_per_unit_; b < (unit + 1) * banks_per_unit_; ++b) {
        if (open(b)) raise(ready, banks_[index(b)].pre);
    }
    return ready - late_.pre;
}

int64_t Device::refresh_ready(int unit) const {
    int64_t ready = 0;
    for (int b = unit * banks_per_unit_; b < (unit + 1) * banks_per_unit_; ++b) raise(ready, banks_[index(b)].act);
    return ready - late_.refresh;
}

int64_t Device::refresh_bank_ready(int bank) const {
    return std::max(banks_[index(bank)].act, units_[index(unit(bank))].act) - late_.refresh;
}

// The other units of the pseudo-channel share its data bus: their bursts keep tRTRS away from this one's.
void Device::after_read(int bank, int64_t at) {
    const Timing& t = timing_;
    const int own = unit(bank), first = own / ranks_ * ranks_;
    raise(units_[index(own)].read, at + t.ccd_short);
    raise(units_[index(own)].write, at + t.rtw);
    raise(group(bank).read, at + t.ccd_long);
    for (int u = first; u < first + ranks_; ++u) {
        if (u == own) continue;
        raise(units_[index(u)].read, at + t.burst + t.rtrs);
        raise(units_[index(u)].write, at + t.cl + t.burst + t.rtrs - t.cwl);
    }
    if (groups_per_unit_ == groups_per_stack_) return;
    const int stack = group_of_[index(bank)] / groups_per_stack_;
    for (int g = own * groups_per_unit_; g < (own + 1) * groups_per_unit_; ++g) {
        if (g / groups_per_stack_ != stack) raise(groups_[index(g)].read, at + t.ccd_stack);
    }
}

void Device::after_write(int bank, int64_t at) {
    const Timing& t = timing_;
    const int own = unit(bank), first = own / ranks_ * ranks_;
    const int64_t end = at + t.cwl + t.burst;
    raise(units_[index(own)].write, at + t.ccd_short_write);
    raise(units_[index(own)].read, end + t.wtr_short);
    raise(group(bank).write, at + t.ccd_long_write);
    raise(group(bank).read, end + t.wtr_long);
    for (int u = first; u < first + ranks_; ++u) {
        if (u == own) continue;
        raise(units_[index(u)].write, at + t.burst + t.rtrs);
        raise(units_[index(u)].read, end + t.rtrs - t.cl);
    }
    if (groups_per_unit_ == groups_per_stack_) return;
    const int stack = group_of_[index(bank)] / groups_per_stack_;
    for (int g = own * groups_per_unit_; g < (own + 1) * groups_per_unit_; ++g) {
        if (g / groups_per_stack_ != stack) raise(groups_[index(g)].write, at + t.ccd_stack);
    }
}

int64_t Device::read(int bank, int64_t now, bool auto_precharge) {
    Bank& b = banks_[index(bank)];
    const int64_t at = now + late_.read;
    after_read(bank, at);
    raise(b.pre, at + timing_.rtp);
    ++b.bursts;
    if (auto_precharge) close(bank, b.pre);
    return at;
}

int64_t Device::write(int bank, int64_t now, bool auto_precharge) {
    Bank& b = banks_[index(bank)];
    const int64_t at = now + late_.write;
    after_write(bank, at);
    raise(b.pre, at + timing_.cwl + timing_.burst + timing_.wr);
    ++b.bursts;
    if (auto_precharge) close(bank, b.pre);
    return at;
}

void Device::activate(int bank, int64_t row, int64_t now) {
    const Timing& t = timing_;
    const int64_t at = now + late_.act;
    Bank& b = banks_[index(bank)];
    b.row = row;
    b.bursts = 0;
    b.act = at + t.rc;
    b.pre = at + t.ras;
    b.read = at + t.rcd_read;
    b.write = at + t.rcd_write;
    raise(group(bank).act, at + t.rrd_long);
    Unit& u = units_[index(unit(bank))];
    raise(u.act, at + t.rrd_short);
    u.recent_acts[index(u.oldest_act)] = at;
    u.oldest_act = (u.oldest_act + 1) % 4;
    // An auto-precharge may still be closing the last row: no tick counts twice.
    if (u.open++ == 0) u.active_since = std::max(u.active_since, at);
}

void Device::close(int bank, int64_t at) {
    Bank& b = banks_[index(bank)];
    b.row = kClosed;
    raise(b.act, at + timing_.rp);
    Unit& u = units_[index(unit(bank))];
    if (--u.open == 0) {
        u.active += std::max<int64_t>(at - u.active_since, 0);
        raise(u.active_since, at);
    }
}

void Device::precharge(int bank, int64_t now) {
    const int64_t at = now + late_.pre;
    raise(units_[index(unit(bank))].pre, at + timing_.ppd);
    close(bank, at);
}

int64_t Device::precharge_all(int unit, int64_t now) {
    const int64_t at = now + late_.pre;
    raise(units_[index(unit)].pre, at + timing_.ppd);
    int64_t closed = 0;
    for (int b = unit * banks_per_unit_; b < (unit + 1) * banks_per_unit_; ++b) {
        if (!open(b)) continue;
        close(b, at);
        ++closed;
    }
    return closed;
}

void Device::refresh(int unit, int64_t now) {
    const int64_t until = now + late_.refresh + timing_.rfc;
    for (int b = unit * banks_per_unit_; b < (unit + 1) * banks_per_unit_; ++b) raise(banks_[index(b)].act, until);
}

void Device::refresh_bank(int bank, int64_t now) {
    const int64_t at = now + late_.refresh;
    raise(banks_[index(bank)].act, at + timing_.rfc_bank);
    raise(units_[index(unit(bank))].act, at + timing_.rrefd);
}

int64_t Device::active_ticks(int64_t now) const {
    int64_t total = 0;
    for (const Unit& u : units_) {
        // An auto-precharge that closes the last row after `now` was counted to its end.
        total += u.open > 0 ? u.active + std::max<int64_t>(now - u.active_since, 0)
                            : u.active - std::max<int64_t>(u.active_since - now, 0);
    }
    return total;
}

}  // namespace sparsecore::sim
