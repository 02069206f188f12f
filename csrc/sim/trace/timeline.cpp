#include "sim/trace/timeline.h"

#include <string>

#include "core/checked.h"
#include "core/error.h"

namespace sparsecore::sim {

using core::Error;

namespace {

constexpr int64_t TimelineSums::*kSums[] = {&TimelineSums::read_bytes, &TimelineSums::write_bytes,
                                            &TimelineSums::bursts, &TimelineSums::row_hits,
                                            &TimelineSums::activations};

void accumulate(TimelineSums& into, const TimelineSums& sums) {
    for (const auto sum : kSums) into.*sum += sums.*sum;
}

}  // namespace

Timeline::Timeline(int64_t channels, int64_t banks_per_channel) : banks_per_channel_(banks_per_channel) {
    if (channels < 1 || banks_per_channel < 1) {
        throw Error("InvalidValueError",
                    std::to_string(channels) + " channels of " + std::to_string(banks_per_channel) + " banks", "",
                    "at least one of each");
    }
    banks_.resize(static_cast<size_t>(core::checked_mul(channels, banks_per_channel, "banks")));
}

TimelineSums& Timeline::bin(int64_t tick) {
    if (tick < 0) throw Error("InvalidValueError", "tick " + std::to_string(tick), "", "0 or later");
    while (tick >> shift_ >= kMostBins) halve();
    const auto index = static_cast<size_t>(tick >> shift_);
    if (index >= bins_.size()) bins_.resize(index + 1);
    return bins_[index];
}

void Timeline::halve() {
    const size_t half = (bins_.size() + 1) / 2;
    for (size_t i = 0; i < half; ++i) {
        TimelineSums sums = bins_[2 * i];
        if (2 * i + 1 < bins_.size()) accumulate(sums, bins_[2 * i + 1]);
        bins_[i] = sums;
    }
    bins_.resize(half);
    ++shift_;
}

void Timeline::add(int64_t tick, const TimelineSums& sums) { accumulate(bin(tick), sums); }

void Timeline::spread(int64_t first, int64_t end, const TimelineSums& sums) {
    if (first < 0 || end <= first) {
        throw Error("InvalidValueError", "ticks " + std::to_string(first) + " to " + std::to_string(end), "",
                    "0 <= first < end");
    }
    bin(end - 1);
    TimelineSums before;  // the sums' share of [first, tick), rounded down
    for (int64_t tick = first; tick < end;) {
        const int64_t stop = (end - 1) >> shift_ == tick >> shift_ ? end : ((tick >> shift_) + 1) << shift_;
        TimelineSums& target = bin(tick);
        for (const auto sum : kSums) {
            const auto share = static_cast<int64_t>(static_cast<__int128>(sums.*sum) * (stop - first) / (end - first));
            target.*sum += share - before.*sum;
            before.*sum = share;
        }
        tick = stop;
    }
}

void Timeline::add_to_bank(int64_t channel, int64_t bank, const UnitTotals& totals) {
    UnitTotals& unit = banks_[static_cast<size_t>(channel * banks_per_channel_ + bank)];
    unit.bursts += totals.bursts;
    unit.activations += totals.activations;
}

void Timeline::add_burst(int64_t tick, int64_t bytes, bool write, bool row_hit, int64_t channel, int64_t bank) {
    TimelineSums& target = bin(tick);
    (write ? target.write_bytes : target.read_bytes) += bytes;
    ++target.bursts;
    target.row_hits += row_hit;
    add_to_bank(channel, bank, {1, 0});
}

void Timeline::add_activation(int64_t tick, int64_t channel, int64_t bank) {
    ++bin(tick).activations;
    add_to_bank(channel, bank, {0, 1});
}

std::vector<UnitTotals> Timeline::channels() const {
    std::vector<UnitTotals> result(banks_.size() / static_cast<size_t>(banks_per_channel_));
    for (size_t i = 0; i < banks_.size(); ++i) {
        UnitTotals& channel = result[i / static_cast<size_t>(banks_per_channel_)];
        channel.bursts += banks_[i].bursts;
        channel.activations += banks_[i].activations;
    }
    return result;
}

}  // namespace sparsecore::sim
