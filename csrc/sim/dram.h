// All channels of a memory, advanced together: requests in, completion times out.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "sim/channel.h"

namespace sparsecore::sim {

// The data of a finished request crosses the pins from tick `first` (start of its first burst) to `last`.
struct Completion {
    int64_t request, first, last;
};

class Dram {
public:
    Dram(const DramConfig& config, int64_t streams);
    Dram(const Dram&) = delete;
    Dram& operator=(const Dram&) = delete;

    // Closes all rows, forgets all requests and counts, and sets the tick to 0; `refresh_phase` ticks have passed
    // since the last refresh.
    void reset(int64_t refresh_phase);

    // Adds a request of `count` rows of `bytes` bytes each, to be issued from tick `time` on in the order given. A burst
    // equal to the one before it in the same request is fetched once. Returns the id of the request.
    int64_t enqueue(int64_t time, const int64_t* addresses, int64_t count, int64_t bytes, int64_t stream, bool write);

    // Runs until tick `limit` or until the first completion whose data ends before it, whichever is earlier.
    std::vector<Completion> run_until(int64_t limit);

    const std::vector<StreamCounts>& counts() const { return counts_; }
    int64_t capacity() const { return capacity_; }
    int64_t now() const { return now_; }

private:
    struct Request {
        int64_t left = 0, first = kNever, last = 0;
    };

    void place(int64_t line, Burst burst);
    void record(const Served& served, std::vector<Completion>& done);
    bool advance_oldest();
    int64_t next_time() const;

    DramConfig config_;
    std::vector<StreamCounts> counts_;
    std::vector<std::unique_ptr<Channel>> channels_;
    std::vector<Request> requests_;
    std::vector<uint8_t> served_ring_;  // which of the bursts oldest_ .. oldest_ + run_ahead are served
    std::vector<Served> served_;
    std::vector<Completion> undelivered_;  // requests without a burst are complete at once
    int64_t capacity_ = 0, orders_ = 0, oldest_ = 0, now_ = 0;
};

}  // namespace sparsecore::sim
