// All channels of a memory, advanced together: requests in, completion times out.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "sim/address_map.h"
#include "sim/channel.h"
#include "sim/latency_histogram.h"

namespace sparsecore::sim {

// The data of a finished request cross the pins from tick `first` (start of its first burst) to `last`.
struct Completion {
    int64_t request, first, last;
};

// Told about every burst when it is served, and about bytes [low, high) of its line that joined it by merging.
class Observer {
public:
    virtual ~Observer() = default;
    virtual void served(const Served& served, int channel) = 0;
    virtual void merged(const Burst& into, int32_t low, int32_t high) = 0;
};

class Dram {
public:
    Dram(const DramConfig& config, int64_t streams);
    Dram(const Dram&) = delete;
    Dram& operator=(const Dram&) = delete;

    // Closes all rows, forgets all requests and counts, and sets the tick to 0; `refresh_phase` ticks have passed
    // since the last refresh.
    void reset(int64_t refresh_phase);

    // Adds a request of `count` rows of `bytes` bytes each, to be sent from tick `time` on in the order given. A burst
    // equal to the one before it in the same request is fetched once. Returns the id of the request.
    int64_t enqueue(int64_t time, const int64_t* addresses, int64_t count, int64_t bytes, int64_t stream, bool write);

    // Adds `bytes` bytes at `address` to the program without an id: no completion is reported, an observer is told.
    // With `merge`, a burst equal to the one just before it (same line, same direction) is not sent. Where the order is
    // that of each channel, its bursts are in the FIFOs from tick `time` on: run_until(time) comes first.
    void append(int64_t time, int64_t address, int64_t bytes, int64_t stream, bool write, bool merge);
    // What must stay known of the program grows without bound otherwise: runs of bytes not yet dispatched, or, where the
    // order is that of each channel, bursts beyond the run-ahead limit (0 if there is none).
    int64_t program_size() const;

    // Runs the ticks before `limit`, or before the end of the first completion, whichever is earlier: a request of that
    // tick can still be added.
    std::vector<Completion> run_until(int64_t limit);
    // Runs until at most `runs` entries of the program are left; -1: until everything is served.
    void run_program(int64_t runs);

    void observe(Observer* observer) { observer_ = observer; }

    const DramConfig& config() const { return config_; }
    const std::vector<StreamCounts>& counts() const { return counts_; }
    // Of the stream's reads, absorbed ones included: ticks from acceptance to the end of their data.
    const LatencyHistogram& latency(size_t stream) const { return latencies_[stream]; }
    int64_t precharges() const;
    int64_t refreshes() const;
    int64_t active_ticks(int64_t now) const;  // in which a rank had an open row, summed over ranks
    int64_t merged() const { return merged_; }
    int64_t capacity() const { return capacity_; }
    int64_t now() const { return now_; }
    int64_t last_data() const { return last_data_; }  // tick at which the last data crossed the pins

private:
    struct Request {
        int64_t left = 0, first = kNever, last = 0;
    };
    struct Run {  // bytes of the program not yet cut into bursts
        int64_t address, end, time, request;
        int32_t stream;
        int32_t joined;  // further bytes asked for of the last line
        bool write, merge;
    };

    void check(int64_t address, int64_t bytes, int64_t stream, int64_t time) const;
    void place();
    bool stage();
    bool repeats(const Run& run) const;
    void dispatch();
    void step_channels(std::vector<Completion>& done);
    void record(const Served& served, int channel, std::vector<Completion>& done);
    static Burst nothing();
    void release_held_back();
    int64_t next_time() const;
    int64_t upcoming();
    void skip_idle();

    DramConfig config_;
    AddressMap map_;
    std::vector<StreamCounts> counts_;
    std::vector<LatencyHistogram> latencies_;
    std::vector<std::unique_ptr<Channel>> channels_;
    std::deque<Run> program_;  // not yet in a FIFO (program order only)
    Burst staged_;             // the burst cut last; it waits for its FIFO if `is_staged_`
    int staged_channel_ = 0;
    bool is_staged_ = false;
    int64_t dispatch_at_ = kNever;
    std::vector<Request> requests_;
    std::vector<uint8_t> served_ring_;  // which of the bursts oldest_ .. oldest_ + run_ahead are served
    std::vector<Served> served_;
    std::vector<Completion> undelivered_;  // requests without a burst are complete at once
    Observer* observer_ = nullptr;
    int64_t capacity_ = 0, orders_ = 0, oldest_ = 0, now_ = 0, outstanding_ = 0, merged_ = 0, last_data_ = 0;
};

}  // namespace sparsecore::sim
