#include "sim/trace/burst_reader.h"

#include <utility>

#include "core/error.h"

namespace sparsecore::sim {

namespace {
constexpr size_t kBatch = 4096;
}

BurstReader::BurstReader(int64_t capacity, int64_t burst_bytes, bool merge, std::string source)
    : reader_(capacity, std::move(source)), burst_bytes_(burst_bytes), merge_(merge), batch_(kBatch) {
    if (burst_bytes < 1) throw core::Error("InvalidValueError", "a burst has no bytes");
}

bool BurstReader::read_more() {
    request_ = 0;
    requests_ = reader_.next(batch_.data(), batch_.size());
    return requests_ > 0;
}

// One burst after the other is all that a list of bursts can say.
void BurstReader::start_run() {
    if (any_) {
        throw core::Error("UnsupportedError", "the trace has several runs, each with a memory of its own", "", "one run",
                          "simulate one layer alone, or cut the trace before each #!sim reset");
    }
}

size_t BurstReader::next(TraceBurst* out, size_t max) {
    size_t count = 0;
    while (count < max && (request_ < requests_ || read_more())) {
        const TraceRequest& request = batch_[request_];
        if (request.reset >= 0) {
            start_run();
            ++request_;
            continue;
        }
        if (request.apart && line_ < 0) last_.line = -1;
        const int64_t end = request.address + request.bytes;
        if (line_ < 0) line_ = request.address / burst_bytes_;
        if (line_ * burst_bytes_ >= end || request.bytes == 0) {
            ++request_;
            line_ = -1;
            continue;
        }
        const TraceBurst burst{request.cycle, line_++, request.write};
        if (merge_ && burst.line == last_.line && burst.write == last_.write) continue;
        out[count++] = last_ = burst;
        any_ = true;
    }
    return count;
}

}  // namespace sparsecore::sim
