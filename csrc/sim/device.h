// The DRAM behind one channel: which rows are open, and from when on each command is allowed.
//
// A bank's index runs over units (a rank of a pseudo-channel), stack ids, bank groups and banks, in this order. All
// `*_ready` are the first tick at which the command may be sent; a command of several clocks takes effect in its last.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <vector>

#include "sim/config.h"

namespace sparsecore::sim {

constexpr int64_t kNever = std::numeric_limits<int64_t>::max() / 4;
constexpr int64_t kClosed = -1;

class Device {
public:
    explicit Device(const DramConfig& config);

    void reset();

    int64_t row(int bank) const { return banks_[index(bank)].row; }
    bool open(int bank) const { return row(bank) != kClosed; }
    // No burst has used the open row yet.
    bool fresh(int bank) const { return banks_[index(bank)].bursts == 0; }
    int64_t bursts_since_activation(int bank) const { return banks_[index(bank)].bursts; }
    int unit(int bank) const { return unit_of_[index(bank)]; }
    int banks_per_unit() const { return banks_per_unit_; }
    bool any_open(int unit) const { return units_[index(unit)].open > 0; }
    bool any_open() const {
        return std::any_of(units_.begin(), units_.end(), [](const Unit& u) { return u.open > 0; });
    }

    int64_t read_ready(int bank) const {
        return std::max({banks_[index(bank)].read, group(bank).read, of(bank).read}) - late_.read;
    }
    int64_t write_ready(int bank) const {
        return std::max({banks_[index(bank)].write, group(bank).write, of(bank).write}) - late_.write;
    }
    int64_t activate_ready(int bank) const {
        const Unit& u = of(bank);
        const int64_t window = u.recent_acts[index(u.oldest_act)] + timing_.faw;
        return std::max({banks_[index(bank)].act, group(bank).act, u.act, window}) - late_.act;
    }
    int64_t precharge_ready(int bank) const { return std::max(banks_[index(bank)].pre, of(bank).pre) - late_.pre; }
    int64_t precharge_all_ready(int unit) const;
    int64_t refresh_ready(int unit) const;       // all banks are closed
    int64_t refresh_bank_ready(int bank) const;  // the bank is closed

    // Each returns the tick at which the command takes effect.
    int64_t read(int bank, int64_t now, bool auto_precharge);
    int64_t write(int bank, int64_t now, bool auto_precharge);
    void activate(int bank, int64_t row, int64_t now);
    void precharge(int bank, int64_t now);
    int64_t precharge_all(int unit, int64_t now);  // returns how many rows it closed
    void refresh(int unit, int64_t now);
    void refresh_bank(int bank, int64_t now);

    // Ticks up to `now` in which a unit had an open row, summed over units.
    int64_t active_ticks(int64_t now) const;

private:
    struct Bank {
        int64_t row = kClosed, bursts = 0;
        int64_t act = 0, pre = 0, read = 0, write = 0;
    };
    struct Group {
        int64_t act = 0, read = 0, write = 0;
    };
    struct Unit {
        int64_t act = 0, pre = 0, read = 0, write = 0;
        std::array<int64_t, 4> recent_acts{};
        int oldest_act = 0;
        int64_t open = 0, active_since = 0, active = 0;  // open: banks with an open row
    };

    static size_t index(int i) { return static_cast<size_t>(i); }
    Group& group(int bank) { return groups_[index(group_of_[index(bank)])]; }
    const Group& group(int bank) const { return groups_[index(group_of_[index(bank)])]; }
    const Unit& of(int bank) const { return units_[index(unit(bank))]; }
    void close(int bank, int64_t at);
    void after_read(int bank, int64_t at);
    void after_write(int bank, int64_t at);

    struct Delays {  // of a command's last clock behind its first
        int64_t act, pre, read, write, refresh;
    };

    int ranks_, groups_per_unit_, groups_per_stack_, banks_per_unit_;
    Timing timing_;
    Delays late_;
    std::vector<int> unit_of_, group_of_;  // by bank
    std::vector<Bank> banks_;
    std::vector<Group> groups_;
    std::vector<Unit> units_;
};

}  // namespace sparsecore::sim
