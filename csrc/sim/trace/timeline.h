// What a memory did over time, in bounded memory: at most 512 bins of equal width, and totals per channel and bank.
//
// Bins start one tick wide. When a tick lies beyond the last bin, neighbours are merged and the width doubles, so that
// sums over bins never change.
#pragma once

#include <cstdint>
#include <vector>

namespace sparsecore::sim {

struct TimelineSums {
    int64_t read_bytes = 0, write_bytes = 0, bursts = 0, row_hits = 0, activations = 0;
};

struct UnitTotals {
    int64_t bursts = 0, activations = 0;
};

class Timeline {
public:
    static constexpr int64_t kMostBins = 512;

    Timeline(int64_t channels, int64_t banks_per_channel);

    // Ticks come in any order. "InvalidValueError": a negative tick, end <= first.
    void add(int64_t tick, const TimelineSums& sums);
    // Spreads the sums evenly over the ticks [first, end); each total is kept exactly.
    void spread(int64_t first, int64_t end, const TimelineSums& sums);
    // To the totals of a channel and of its bank; both are within the constructor's bounds.
    void add_to_bank(int64_t channel, int64_t bank, const UnitTotals& totals);

    // One burst or activation: add() and add_to_bank().
    void add_burst(int64_t tick, int64_t bytes, bool write, bool row_hit, int64_t channel, int64_t bank);
    void add_activation(int64_t tick, int64_t channel, int64_t bank);

    int64_t width() const { return int64_t{1} << shift_; }             // ticks of a bin, a power of two
    const std::vector<TimelineSums>& bins() const { return bins_; }    // up to the last one with a tick added
    std::vector<UnitTotals> channels() const;
    const std::vector<UnitTotals>& banks() const { return banks_; }    // channel-major

private:
    TimelineSums& bin(int64_t tick);
    void halve();

    int64_t banks_per_channel_ = 1;
    int shift_ = 0;
    std::vector<TimelineSums> bins_;
    std::vector<UnitTotals> banks_;
};

}  // namespace sparsecore::sim
