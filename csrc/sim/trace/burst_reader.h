// The bursts of a trace in the order in which they are sent, in bounded memory: requests cut into lines.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "sim/trace/trace_reader.h"

namespace sparsecore::sim {

struct TraceBurst {
    int64_t cycle = -1;  // -1: as soon as possible
    int64_t line = -1;   // address / bytes of a burst
    bool write = false;
};

class BurstReader {
public:
    // `merge`: without bursts equal to the one just before (same line, same direction). Raises core::Error as TraceReader
    // does; "InvalidValueError": burst_bytes < 1. next() raises "UnsupportedError" where a second run starts.
    BurstReader(int64_t capacity, int64_t burst_bytes, bool merge, std::string source);

    void feed(const char* text, size_t size) { reader_.feed(text, size); }
    void finish() { reader_.finish(); }
    // Writes up to `max` bursts to `out` and returns their number: 0 when more text is needed or the trace is over.
    size_t next(TraceBurst* out, size_t max);

private:
    bool read_more();
    void start_run();

    TraceReader reader_;
    int64_t burst_bytes_;
    bool merge_;
    std::vector<TraceRequest> batch_;
    size_t request_ = 0, requests_ = 0;  // in the batch: the next one, and how many there are
    int64_t line_ = -1;                  // the next line of it; -1: its first
    TraceBurst last_;
    bool any_ = false;  // bursts so far
};

}  // namespace sparsecore::sim
