#include "sim/dram.h"

#include <algorithm>

#include "core/error.h"

namespace sparsecore::sim {

Dram::Dram(const DramConfig& config, int64_t streams) : config_(config) {
    validate(config_);
    const Organisation& o = config_.organisation;
    capacity_ = o.channels * o.pseudo_channels * o.banks() * o.rows * o.columns * o.burst_bytes;
    counts_.resize(static_cast<size_t>(streams));
    for (int64_t i = 0; i < o.channels; ++i) channels_.push_back(std::make_unique<Channel>(config_, counts_));
    served_ring_.assign(static_cast<size_t>(config_.admission.run_ahead), 0);
}

void Dram::reset(int64_t refresh_phase) {
    const int64_t refi = config_.timing.refi;
    const int64_t phase = refi > 0 ? ((refresh_phase % refi) + refi) % refi : 0;
    std::fill(counts_.begin(), counts_.end(), StreamCounts{});
    for (auto& channel : channels_) channel->reset(phase);
    requests_.clear();
    std::fill(served_ring_.begin(), served_ring_.end(), uint8_t{0});
    undelivered_.clear();
    orders_ = oldest_ = now_ = 0;
}

void Dram::place(int64_t line, Burst burst) {
    int64_t fields[6] = {}, filled[6] = {};
    for (const MapSlice& slice : config_.map) {
        const size_t f = static_cast<size_t>(slice.field);
        fields[f] |= (line & ((int64_t{1} << slice.bits) - 1)) << filled[f];
        filled[f] += slice.bits;
        line >>= slice.bits;
    }
    burst.pseudo = static_cast<int32_t>(fields[1]);
    burst.bank = static_cast<int32_t>(fields[2] * config_.organisation.banks_per_group + fields[3]);
    burst.row = fields[5];
    channels_[static_cast<size_t>(fields[0])]->push(burst);
}

int64_t Dram::enqueue(int64_t time, const int64_t* addresses, int64_t count, int64_t bytes, int64_t stream,
                      bool write) {
    if (stream < 0 || stream >= static_cast<int64_t>(counts_.size())) {
        throw core::Error("InvalidValueError", "unknown stream " + std::to_string(stream));
    }
    if (bytes < 0 || time < now_) {
        throw core::Error("InvalidValueError", bytes < 0 ? "a request has negative bytes" : "a request lies in the past");
    }
    for (int64_t i = 0; i < count; ++i) {
        if (addresses[i] < 0 || addresses[i] > capacity_ - bytes) {
            throw core::Error("InvalidValueError", "address " + std::to_string(addresses[i]) + " is outside the memory", "",
                              "0 to " + std::to_string(capacity_ - 1));
        }
    }
    const int64_t id = static_cast<int64_t>(requests_.size());
    Burst burst;
    burst.arrival = time;
    burst.request = id;
    burst.stream = static_cast<int32_t>(stream);
    burst.write = write;
    Request request;
    int64_t previous = -1;
    const int64_t unit = config_.organisation.burst_bytes;
    for (int64_t i = 0; i < count && bytes > 0; ++i) {
        const int64_t last = (addresses[i] + bytes - 1) / unit;
        for (int64_t line = addresses[i] / unit; line <= last; ++line) {
            if (line == previous) continue;
            previous = line;
            burst.order = orders_++;
            ++request.left;
            place(line, burst);
        }
    }
    requests_.push_back(request);
    if (request.left == 0) undelivered_.push_back({id, time, time});
    return id;
}

void Dram::record(const Served& served, std::vector<Completion>& done) {
    served_ring_[static_cast<size_t>(served.order % config_.admission.run_ahead)] = 1;
    Request& request = requests_[static_cast<size_t>(served.request)];
    request.first = std::min(request.first, served.start);
    request.last = std::max(request.last, served.done);
    if (--request.left == 0) done.push_back({served.request, request.first, request.last});
}

bool Dram::advance_oldest() {
    const int64_t before = oldest_;
    while (oldest_ < orders_) {
        uint8_t& flag = served_ring_[static_cast<size_t>(oldest_ % config_.admission.run_ahead)];
        if (flag == 0) break;
        flag = 0;
        ++oldest_;
    }
    return oldest_ != before;
}

int64_t Dram::next_time() const {
    int64_t next = kNever;
    for (const auto& channel : channels_) next = std::min(next, channel->next_time());
    return next;
}

std::vector<Completion> Dram::run_until(int64_t limit) {
    std::vector<Completion> done;
    done.swap(undelivered_);
    for (const Completion& completion : done) limit = std::min(limit, completion.last);
    for (int64_t t = next_time(); t <= limit && t < kNever; t = next_time()) {
        now_ = t;
        const int64_t allowed = oldest_ + config_.admission.run_ahead;
        served_.clear();
        for (auto& channel : channels_) {
            if (channel->next_time() == t) channel->step(t, allowed, served_);
        }
        const size_t before = done.size();
        for (const Served& served : served_) record(served, done);
        for (size_t i = before; i < done.size(); ++i) limit = std::min(limit, done[i].last);
        if (!served_.empty() && advance_oldest()) {
            const int64_t now_allowed = oldest_ + config_.admission.run_ahead;
            for (auto& channel : channels_) {
                if (channel->held_back() && channel->first_pending() < now_allowed) channel->wake(t + 1);
            }
        }
    }
    return done;
}

}  // namespace sparsecore::sim
