#include "sim/command_port.h"

#include <algorithm>

namespace sparsecore::sim {

CommandPort::CommandPort(const DramConfig& config, std::vector<StreamCounts>& streams)
    : controller_(config.controller), timing_(config.timing), device_(config), streams_(streams) {}

void CommandPort::reset() {
    device_.reset();
    now_ = column_free_ = row_free_ = precharges_ = refreshes_ = 0;
}

void CommandPort::occupy(Kind kind, int64_t now) {
    const Controller& c = controller_;
    const int64_t slots = kind == Kind::Activate    ? c.act_slots
                          : kind == Kind::Precharge ? c.pre_slots
                          : kind == Kind::Read      ? c.read_slots
                          : kind == Kind::Write     ? c.write_slots
                                                    : c.refresh_slots;
    if (!c.split_bus) {
        column_free_ = row_free_ = now + slots;
    } else {
        (is_column(kind) ? column_free_ : row_free_) = now + slots;
    }
}

void CommandPort::column(const Burst& burst, int64_t now, bool auto_precharge, std::vector<Served>& served) {
    occupy(burst.write ? Kind::Write : Kind::Read, now);
    const bool hit = !device_.fresh(burst.bank);
    const int64_t at = burst.write ? device_.write(burst.bank, now, auto_precharge)
                                   : device_.read(burst.bank, now, auto_precharge);
    precharges_ += auto_precharge ? 1 : 0;
    StreamCounts& counts = streams_[static_cast<size_t>(burst.stream)];
    ++counts.bursts;
    counts.row_hits += hit ? 1 : 0;
    counts.asked_bytes += burst.high - burst.low + burst.joined;
    const int64_t start = at + (burst.write ? timing_.cwl : timing_.cl + controller_.delay);
    served.push_back({burst, start, start + timing_.burst, hit, false});
}

void CommandPort::activate(const Burst& burst, int64_t now) {
    occupy(Kind::Activate, now);
    device_.activate(burst.bank, burst.row, now);
    ++streams_[static_cast<size_t>(burst.stream)].activations;
}

void CommandPort::precharge(int bank, int64_t now) {
    occupy(Kind::Precharge, now);
    device_.precharge(bank, now);
    ++precharges_;
}

void CommandPort::precharge_all(int unit, int64_t now) {
    occupy(Kind::Precharge, now);
    precharges_ += device_.precharge_all(unit, now);
}

void CommandPort::refresh(int unit, int64_t now) {
    occupy(Kind::Refresh, now);
    device_.refresh(unit, now);
    ++refreshes_;
}

void CommandPort::refresh_bank(int bank, int64_t now) {
    occupy(Kind::Refresh, now);
    device_.refresh_bank(bank, now);
    ++refreshes_;
}

}  // namespace sparsecore::sim
