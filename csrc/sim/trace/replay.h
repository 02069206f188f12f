// Replays a request trace on a memory, in memory that does not grow with the trace's length.
//
// A request longer than kLongSamples samples is cut short: once two samples of it have been sent, whole samples in its
// middle cost what the second one did (closed form); its end is simulated again. A sample is several refresh intervals
// long and covers every row it touches. Latencies are those of simulated bursts. Where admission is in the order of each
// channel every burst is simulated.
//
// A trace may hold several runs (`#!sim reset`): each starts at cycle 0 of a memory with all rows closed, and what they did
// and how long they took is added up.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "sim/dram.h"
#include "sim/trace/coverage.h"
#include "sim/latency_histogram.h"
#include "sim/trace/timeline.h"
#include "sim/trace/trace_reader.h"

namespace sparsecore::sim {

// What the requests of one label did. `useful_bytes`: different bytes that its bursts fetched or wrote because they were
// asked for; bytes answered without a burst are not among them.
struct StreamRecord {
    int64_t requests = 0, requested_bytes = 0;
    std::unique_ptr<Coverage> useful;
};

struct ReplayTotals {
    int64_t ticks = 0, merged = 0, precharges = 0, refreshes = 0, active_ticks = 0, closed_form_bytes = 0;
    int64_t reads = 0, writes = 0;  // bursts
};

class Replay final : private Observer {
public:
    // `merge`: a burst equal to the one just before it (same line, same direction) is not sent. `source`: the trace's
    // name in errors. Raises core::Error as Dram and TraceReader do.
    Replay(const DramConfig& config, bool merge, std::string source);

    void feed(const char* text, size_t size);
    void finish();

    const std::vector<std::string>& labels() const { return reader_.labels(); }
    const StreamRecord& stream(size_t label) const { return streams_[label]; }
    StreamCounts counts(size_t label) const;
    ReplayTotals totals() const;
    LatencyHistogram latency(size_t label) const;  // of reads, in ticks
    LatencyHistogram latency() const;              // of all of them
    int64_t useful_bytes(size_t label) const;      // different ones of each run
    const Timeline& timeline() const { return timeline_; }

private:
    struct Snapshot {
        int64_t now = 0, precharges = 0, refreshes = 0, active_ticks = 0;
        StreamCounts counts;
        std::vector<UnitTotals> banks;
    };
    struct Finished {  // what earlier runs did by label
        StreamCounts counts;
        LatencyHistogram latency;
        int64_t useful = 0;
    };
    struct LateMerge {  // bytes [low, high) that joined a burst not yet served; none left: done
        int64_t order;
        int32_t low, high;
    };

    void served(const Served& served, int channel) override;
    void merged(const Burst& into, int32_t low, int32_t high) override;
    void cover(const Burst& burst, int32_t low, int32_t high);
    void finish_merges(const Burst& burst, bool absorbed);
    void parse();
    void add(const TraceRequest& request);
    void start_run(int64_t refresh_phase);
    void append(const TraceRequest& request, int64_t address, int64_t bytes);
    void add_long(const TraceRequest& request);
    void skip(const TraceRequest& request, const Snapshot& from, const Snapshot& to, int64_t samples);
    Snapshot snapshot(int32_t label) const;

    Dram dram_;
    TraceReader reader_;
    bool merge_;
    int64_t sample_bytes_;
    std::vector<TraceRequest> batch_;
    std::vector<StreamRecord> streams_;
    std::vector<StreamCounts> skipped_counts_;
    ReplayTotals skipped_;   // what the closed form stands for
    ReplayTotals finished_;  // earlier runs
    std::vector<Finished> finished_streams_;
    int64_t offset_ = 0;  // ticks that are added to those of the memory: earlier runs and closed forms
    Timeline timeline_;
    int64_t newest_order_ = -1;  // of the bursts served
    bool newest_absorbed_ = false;
    std::deque<LateMerge> late_merges_;  // by order
    int64_t reads_ = 0, writes_ = 0;     // of all runs
};

}  // namespace sparsecore::sim
