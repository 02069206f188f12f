// What is measured along a replay: unique bytes, latencies and sums over time, each against a naive recomputation.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <vector>

#include "harness.h"
#include "sim/trace/coverage.h"
#include "sim/latency_histogram.h"
#include "sim/trace/timeline.h"

using namespace sparsecore::sim;

namespace {

constexpr int64_t kPage = Coverage::kPageBytes, kRegion = Coverage::kRegionBytes;

// A coverage and the plain table of bytes that it has to agree with.
struct Compared {
    Coverage coverage;
    std::vector<bool> bytes;
    int64_t unique = 0;

    explicit Compared(int64_t capacity) : coverage(capacity), bytes(static_cast<size_t>(capacity)) {}
    void add(int64_t address, int64_t count) {
        coverage.add(address, count);
        for (int64_t i = address; i < address + count; ++i) {
            unique += !bytes[static_cast<size_t>(i)];
            bytes[static_cast<size_t>(i)] = true;
        }
        CHECK(coverage.unique_bytes() == unique);
    }
};

struct Event {
    int64_t tick, bytes, channel, bank;
    bool write, hit, activation;
};

std::vector<Event> random_events(int64_t latest) {
    std::vector<Event> events(static_cast<size_t>(harness::integer(1, 400)));
    for (Event& e : events) {
        e = {harness::integer(0, latest),  harness::integer(0, 64),      harness::integer(0, 2),
             harness::integer(0, 3),       harness::integer(0, 1) != 0, harness::integer(0, 1) != 0,
             harness::integer(0, 3) == 0};
    }
    return events;
}

bool same(const TimelineSums& a, const TimelineSums& b) {
    return a.read_bytes == b.read_bytes && a.write_bytes == b.write_bytes && a.bursts == b.bursts &&
           a.row_hits == b.row_hits && a.activations == b.activations;
}
bool same(const UnitTotals& a, const UnitTotals& b) { return a.bursts == b.bursts && a.activations == b.activations; }
template <class T>
bool equal(const std::vector<T>& a, const std::vector<T>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const T& x, const T& y) { return same(x, y); });
}

}  // namespace

TEST(coverage_equals_a_table_of_bytes) {
    for (int round = 0; round < 12; ++round) {
        const int64_t capacity = harness::integer(1, 6 * kPage);
        Compared compared(capacity);
        const int64_t unit = harness::pick<int64_t>({1, 4, 16, 48, 64});
        const int64_t longest = harness::pick<int64_t>({1, 8, 300, 3 * kPage / unit});
        for (int i = 0; i < 200; ++i) {
            const int64_t address = harness::integer(0, capacity / unit) * unit;
            compared.add(address, std::min(harness::integer(0, longest) * unit, capacity - address));
        }
        compared.add(0, capacity);
        CHECK(compared.unique == capacity);
        CHECK(compared.coverage.memory_bytes() < 10 * 8192 + 4096 * 32);
    }
}

TEST(coverage_memory_follows_what_is_touched_in_part) {
    Coverage coverage(4 * kRegion);
    const int64_t empty = coverage.memory_bytes();
    coverage.add(0, 16);
    const int64_t table = coverage.memory_bytes() - empty - kPage / Coverage::kGranule / 8;
    CHECK(table == 4096 * 16);
    coverage.add(48, 96);
    CHECK(coverage.memory_bytes() == empty + table + 512);
    coverage.add(50, 1);  // covered already, but its end fits no granule: one bit per byte from here on
    CHECK(coverage.memory_bytes() == empty + table + 8192);
    CHECK(coverage.unique_bytes() == 112);
    coverage.add(0, kPage);
    CHECK(coverage.memory_bytes() == empty + table);
    for (int64_t at = kPage; at < kRegion; at += 4096) coverage.add(at, 4096);
    CHECK(coverage.memory_bytes() == empty);
    CHECK(coverage.unique_bytes() == kRegion);
    coverage.add(3, 7 * kPage);
    CHECK(coverage.memory_bytes() == empty && coverage.unique_bytes() == kRegion);
}

TEST(coverage_whole_regions_and_their_edges) {
    Coverage coverage(int64_t{1} << 40);
    const int64_t empty = coverage.memory_bytes();
    coverage.add(kRegion - 3, 2 * kRegion + 8);
    CHECK(coverage.unique_bytes() == 2 * kRegion + 8);
    coverage.add(2 * kRegion - 1, 2);
    coverage.add(3 * kRegion + 4, 1);
    CHECK(coverage.unique_bytes() == 2 * kRegion + 8);
    coverage.add(3 * kRegion + 5, 1);
    CHECK(coverage.unique_bytes() == 2 * kRegion + 9);
    coverage.add(0, int64_t{1} << 40);
    CHECK(coverage.unique_bytes() == int64_t{1} << 40);
    CHECK(coverage.memory_bytes() == empty);
}

TEST(coverage_refuses_what_lies_outside) {
    CHECK_ERROR("InvalidValueError", Coverage(-1));
    CHECK_ERROR("InvalidValueError", Coverage(Coverage::kMostCapacity + 1));
    Coverage coverage(100);
    coverage.add(100, 0);
    CHECK_ERROR("InvalidValueError", coverage.add(100, 1));
    CHECK_ERROR("InvalidValueError", coverage.add(-1, 1));
    CHECK_ERROR("InvalidValueError", coverage.add(1, -1));
    CHECK_ERROR("InvalidValueError", coverage.add(1, INT64_MAX));
    CHECK(coverage.unique_bytes() == 0);
}

TEST(histogram_quantiles_equal_sorted_values) {
    for (int round = 0; round < 30; ++round) {
        const int64_t top =
            harness::pick<int64_t>({1, 100, LatencyHistogram::kExact - 1, 20000, int64_t{1} << 40, INT64_MAX});
        std::vector<int64_t> values;
        LatencyHistogram parts[2], merged;
        for (int64_t i = harness::integer(1, 500); i > 0; --i) {
            const int64_t value = harness::integer(0, top), times = harness::integer(0, 3);
            parts[i % 2].add(value, times);
            values.insert(values.end(), static_cast<size_t>(times), value);
        }
        values.push_back(top);
        parts[0].add(top);
        merged.merge(parts[0]);
        merged.merge(parts[1]);
        std::sort(values.begin(), values.end());
        const auto n = static_cast<int64_t>(values.size());
        CHECK(merged.count() == n && merged.max() == values.back() && merged.min() == values.front());
        const long double sum = std::accumulate(values.begin(), values.end(), 0.0L);
        CHECK(std::fabs(merged.mean() - static_cast<double>(sum / n)) <= 1e-15 * merged.mean());
        for (int64_t k = 0; k <= 200; ++k) {
            const int64_t rank = std::max<int64_t>(1, (k * n + 199) / 200);
            const int64_t exact = values[static_cast<size_t>(rank - 1)];
            const int64_t error = std::abs(merged.quantile(static_cast<double>(k) / 200) - exact);
            CHECK(error <= (exact < LatencyHistogram::kExact ? 0 : exact / 2048 + 1));
        }
    }
}

TEST(histogram_edges) {
    LatencyHistogram empty;
    CHECK(empty.count() == 0 && empty.quantile(0.5) == 0 && empty.mean() == 0 && empty.max() == 0 && empty.min() == 0);
    CHECK_ERROR("InvalidValueError", empty.add(-1));
    CHECK_ERROR("InvalidValueError", empty.add(1, -1));
    CHECK_ERROR("InvalidValueError", empty.quantile(1.5));
    CHECK_ERROR("InvalidValueError", empty.quantile(NAN));
    for (int exponent = 0; exponent < 63; ++exponent) {
        for (const int64_t value : {(int64_t{1} << exponent) - 1, int64_t{1} << exponent}) {
            LatencyHistogram one;
            one.add(value);
            CHECK(one.quantile(0.99) == value);  // a single value is known by its bounds
        }
    }
    LatencyHistogram hundred;
    for (int64_t i = 1; i <= 100; ++i) hundred.add(i);
    CHECK(hundred.quantile(0.07) == 7 && hundred.quantile(0.071) == 8);
    CHECK(hundred.quantile(0) == 1 && hundred.quantile(1) == 100);
}

TEST(timeline_equals_sums_of_events) {
    for (int round = 0; round < 20; ++round) {
        Timeline timeline(3, 4);
        const int64_t latest = harness::pick<int64_t>({0, 10, 511, 512, 100000, int64_t{1} << 45});
        const std::vector<Event> events = random_events(latest);
        int64_t last = 0;
        for (const Event& e : events) {
            if (e.activation) timeline.add_activation(e.tick, e.channel, e.bank);
            else timeline.add_burst(e.tick, e.bytes, e.write, e.hit, e.channel, e.bank);
            last = std::max(last, e.tick);
        }
        const auto& bins = timeline.bins();
        CHECK(static_cast<int64_t>(bins.size()) == last / timeline.width() + 1 && bins.size() <= 512);
        CHECK(timeline.width() == 1 || last / (timeline.width() / 2) >= 512);
        std::vector<TimelineSums> sums(bins.size());
        std::vector<UnitTotals> banks(12), channels(3);
        for (const Event& e : events) {
            TimelineSums& sum = sums[static_cast<size_t>(e.tick / timeline.width())];
            (e.write ? sum.write_bytes : sum.read_bytes) += e.activation ? 0 : e.bytes;
            sum.bursts += !e.activation;
            sum.row_hits += !e.activation && e.hit;
            sum.activations += e.activation;
            for (UnitTotals* unit : {&banks[static_cast<size_t>(e.channel * 4 + e.bank)],
                                     &channels[static_cast<size_t>(e.channel)]}) {
                unit->bursts += !e.activation;
                unit->activations += e.activation;
            }
        }
        CHECK(equal(sums, bins));
        CHECK(equal(banks, timeline.banks()));
        CHECK(equal(channels, timeline.channels()));
    }
}

TEST(timeline_spreads_evenly_and_exactly) {
    for (int round = 0; round < 50; ++round) {
        Timeline timeline(1, 1);
        const int64_t first = harness::integer(0, 3000);
        const int64_t length = harness::integer(1, harness::pick<int64_t>({3, 700, int64_t{1} << 50}));
        const int64_t bytes = harness::integer(0, int64_t{1} << harness::integer(0, 60));
        timeline.add(0, {1, 0, 0, 0, 0});
        timeline.spread(first, first + length, {0, bytes, 7, 3, 1});
        TimelineSums total;
        for (size_t i = 0; i < timeline.bins().size(); ++i) {
            const TimelineSums& bin = timeline.bins()[i];
            total.write_bytes += bin.write_bytes;
            total.read_bytes += bin.read_bytes;
            total.bursts += bin.bursts;
            total.row_hits += bin.row_hits;
            total.activations += bin.activations;
            const int64_t start = static_cast<int64_t>(i) * timeline.width();
            const int64_t stop = std::min(start + timeline.width(), first + length);
            const int64_t ticks = std::max<int64_t>(0, stop - std::max(start, first));
            const long double share = static_cast<long double>(bytes) * ticks / length;
            CHECK(std::fabs(static_cast<double>(bin.write_bytes - share)) <= 1.0 + 1e-15 * static_cast<double>(bytes));
        }
        CHECK(same(total, {1, bytes, 7, 3, 1}));
    }
}

TEST(timeline_refusals) {
    CHECK_ERROR("InvalidValueError", Timeline(0, 1));
    CHECK_ERROR("InvalidValueError", Timeline(1, 0));
    Timeline timeline(1, 1);
    CHECK_ERROR("InvalidValueError", timeline.add(-1, {}));
    CHECK_ERROR("InvalidValueError", timeline.spread(5, 5, {}));
    CHECK_ERROR("InvalidValueError", timeline.spread(-1, 5, {}));
    timeline.add(INT64_MAX, {1, 0, 0, 0, 0});
    timeline.spread(0, INT64_MAX, {10, 0, 0, 0, 0});
    CHECK(timeline.bins().size() <= 512 && timeline.bins().back().read_bytes >= 1);
}
