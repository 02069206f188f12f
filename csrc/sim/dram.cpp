#include "sim/dram.h"

#include <algorithm>

#include "core/error.h"

namespace sparsecore::sim {
namespace {

constexpr int64_t kUntracked = -1;
constexpr int64_t kLongPause = 8;  // refresh intervals
constexpr int64_t kBusyGap = 32;   // ticks; longer ones are looked at more closely

}  // namespace

Dram::Dram(const DramConfig& config, int64_t streams) : config_(config), map_(config) {
    validate(config_);
    const Organisation& o = config_.organisation;
    capacity_ = o.channels * o.channel_banks() * o.rows * o.columns * o.burst_bytes;
    counts_.resize(static_cast<size_t>(streams));
    latencies_.resize(static_cast<size_t>(streams));
    for (int64_t i = 0; i < o.channels; ++i) channels_.push_back(std::make_unique<Channel>(config_, counts_));
    served_ring_.assign(static_cast<size_t>(config_.admission.run_ahead), 0);
    staged_ = nothing();
}

// What no burst can repeat.
Burst Dram::nothing() {
    Burst burst;
    burst.line = -1;
    return burst;
}

void Dram::reset(int64_t refresh_phase) {
    const int64_t refi = config_.timing.refi;
    const int64_t phase = refi > 0 ? ((refresh_phase % refi) + refi) % refi : 0;
    std::fill(counts_.begin(), counts_.end(), StreamCounts{});
    std::fill(latencies_.begin(), latencies_.end(), LatencyHistogram{});
    for (auto& channel : channels_) channel->reset(phase);
    program_.clear();
    staged_ = nothing();
    is_staged_ = false;
    dispatch_at_ = kNever;
    requests_.clear();
    std::fill(served_ring_.begin(), served_ring_.end(), uint8_t{0});
    undelivered_.clear();
    orders_ = oldest_ = now_ = outstanding_ = merged_ = last_data_ = 0;
}

void Dram::check(int64_t address, int64_t bytes, int64_t stream, int64_t time) const {
    if (stream < 0 || stream >= static_cast<int64_t>(counts_.size())) {
        throw core::Error("InvalidValueError", "unknown stream " + std::to_string(stream));
    }
    if (bytes < 0) throw core::Error("InvalidValueError", "a request has negative bytes");
    if (time < now_) throw core::Error("InvalidValueError", "a request lies in the past");
    if (address < 0 || bytes > capacity_ || address > capacity_ - bytes) {
        throw core::Error("InvalidValueError", "address " + std::to_string(address) + " is outside the memory", "",
                          "0 to " + std::to_string(capacity_ - 1));
    }
}

int64_t Dram::enqueue(int64_t time, const int64_t* addresses, int64_t count, int64_t bytes, int64_t stream,
                      bool write) {
    check(0, bytes, stream, time);
    for (int64_t i = 0; i < count; ++i) check(addresses[i], bytes, stream, time);
    const int64_t id = static_cast<int64_t>(requests_.size());
    const int64_t unit = config_.organisation.burst_bytes;
    Request request;
    int64_t previous = -1;
    for (int64_t i = 0; i < count && bytes > 0; ++i) {
        const int64_t last = (addresses[i] + bytes - 1) / unit, end = addresses[i] + bytes;
        const int64_t address = addresses[i] / unit == previous ? (previous + 1) * unit : addresses[i];
        if (address > addresses[i]) program_.back().joined += static_cast<int32_t>(std::min(address, end) - addresses[i]);
        previous = last;
        if (address >= end) continue;
        request.left += last - address / unit + 1;
        program_.push_back({address, end, time, id, static_cast<int32_t>(stream), 0, write, false});
    }
    requests_.push_back(request);
    outstanding_ += request.left;
    if (request.left == 0) undelivered_.push_back({id, time, time});
    if (config_.admission.program_order) {
        if (!program_.empty()) dispatch_at_ = std::min(dispatch_at_, std::max(now_, program_.front().time));
    } else {
        while (stage()) place();
    }
    return id;
}

void Dram::append(int64_t time, int64_t address, int64_t bytes, int64_t stream, bool write, bool merge) {
    check(address, bytes, stream, std::max(time, now_));
    if (bytes == 0) return;
    const int64_t unit = config_.organisation.burst_bytes;
    program_.push_back({address, address + bytes, time, kUntracked, static_cast<int32_t>(stream), 0, write, merge});
    outstanding_ += (address + bytes - 1) / unit - address / unit + 1;
    if (config_.admission.program_order) {
        dispatch_at_ = std::min(dispatch_at_, std::max(now_, program_.front().time));
    } else {
        while (stage()) place();
    }
}

int64_t Dram::program_size() const {
    const Admission& a = config_.admission;
    if (a.program_order) return static_cast<int64_t>(program_.size());
    return a.run_ahead > 0 ? std::max<int64_t>(orders_ - oldest_ - a.run_ahead, 0) : 0;
}

bool Dram::repeats(const Run& run) const {
    return run.merge && run.address / config_.organisation.burst_bytes == staged_.line && run.write == staged_.write &&
           run.request == staged_.request;
}

// Cuts the next burst off the program into `staged_`; false if the program is empty.
bool Dram::stage() {
    const int64_t unit = config_.organisation.burst_bytes;
    while (!is_staged_ && !program_.empty()) {
        Run& run = program_.front();
        const int64_t line = run.address / unit;
        const auto low = static_cast<int32_t>(run.address - line * unit);
        const auto high = static_cast<int32_t>(std::min(run.end - line * unit, unit));
        if (repeats(run)) {
            ++merged_;
            --outstanding_;
            if (observer_ != nullptr) observer_->merged(staged_, low, high);
        } else {
            const Location location = map_.locate(line);
            staged_channel_ = location.channel;
            const int32_t joined = (line + 1) * unit >= run.end ? run.joined : 0;
            staged_ = {orders_++, run.time, run.request, line, location.row, 0, 0, location.bank, run.stream, low, high,
                       joined, run.write};
            is_staged_ = true;
        }
        run.address = (line + 1) * unit;
        if (run.address >= run.end) program_.pop_front();
    }
    return is_staged_;
}

void Dram::place() {
    channels_[static_cast<size_t>(staged_channel_)]->push(staged_);
    is_staged_ = false;
}

// Moves bursts of the program into the FIFOs after the channels have taken theirs; they are seen in the next tick.
void Dram::dispatch() {
    dispatch_at_ = kNever;
    for (int64_t budget = config_.admission.rate; stage(); --budget) {
        if (staged_.time > now_) {
            dispatch_at_ = staged_.time;
            return;
        }
        if (budget == 0) {
            dispatch_at_ = now_ + 1;
            return;
        }
        if (channels_[static_cast<size_t>(staged_channel_)]->fifo_size() >= config_.admission.depth) return;
        staged_.time = now_ + 1;
        place();
    }
}

void Dram::record(const Served& served, int channel, std::vector<Completion>& done) {
    --outstanding_;
    if (!served.absorbed) last_data_ = std::max(last_data_, served.done);
    const Burst& burst = served.burst;
    if (!burst.write) latencies_[static_cast<size_t>(burst.stream)].add(served.done - burst.accepted);
    if (!served_ring_.empty()) served_ring_[static_cast<size_t>(burst.order % config_.admission.run_ahead)] = 1;
    if (observer_ != nullptr) observer_->served(served, channel);
    if (burst.request == kUntracked) return;
    Request& request = requests_[static_cast<size_t>(burst.request)];
    request.first = std::min(request.first, served.start);
    request.last = std::max(request.last, served.done);
    if (--request.left == 0) done.push_back({burst.request, request.first, request.last});
}

void Dram::release_held_back() {
    const int64_t before = oldest_;
    while (oldest_ < orders_) {
        uint8_t& flag = served_ring_[static_cast<size_t>(oldest_ % config_.admission.run_ahead)];
        if (flag == 0) break;
        flag = 0;
        ++oldest_;
    }
    if (oldest_ == before) return;
    for (auto& channel : channels_) {
        if (channel->held_back() && channel->first_waiting() < oldest_ + config_.admission.run_ahead) channel->wake(now_ + 1);
    }
}

int64_t Dram::next_time() const {
    int64_t next = dispatch_at_;
    for (const auto& channel : channels_) next = std::min(next, channel->next_time());
    return next;
}

// A long pause is not stepped through refresh by refresh.
void Dram::skip_idle() {
    int64_t until = dispatch_at_;
    for (const auto& channel : channels_) until = std::min(until, channel->first_time());
    if (until >= kNever || until - now_ <= kLongPause * config_.timing.refi) return;
    for (auto& channel : channels_) channel->skip_idle(until);
}

// The tick of the next event.
int64_t Dram::upcoming() {
    const int64_t next = next_time();
    if (next - now_ <= kBusyGap) return next;
    skip_idle();
    return next_time();
}

void Dram::step_channels(std::vector<Completion>& done) {
    const int64_t run_ahead = config_.admission.run_ahead;
    const int64_t allowed = run_ahead > 0 ? oldest_ + run_ahead : kNever;
    bool any = false;
    for (size_t c = 0; c < channels_.size(); ++c) {
        if (channels_[c]->next_time() != now_) continue;
        served_.clear();
        channels_[c]->step(now_, allowed, served_);
        for (const Served& served : served_) record(served, static_cast<int>(c), done);
        any |= !served_.empty();
    }
    if (any && run_ahead > 0) release_held_back();
    if (!config_.admission.program_order) return;
    const bool room = is_staged_ && dispatch_at_ == kNever &&
                      channels_[static_cast<size_t>(staged_channel_)]->fifo_size() < config_.admission.depth;
    if (dispatch_at_ <= now_ || room) dispatch();
}

std::vector<Completion> Dram::run_until(int64_t limit) {
    std::vector<Completion> done;
    done.swap(undelivered_);
    for (const Completion& completion : done) limit = std::min(limit, completion.last);
    while (outstanding_ > 0) {
        const int64_t t = upcoming();
        if (t >= limit || t >= kNever) break;
        now_ = t;
        const size_t before = done.size();
        step_channels(done);
        for (size_t i = before; i < done.size(); ++i) limit = std::min(limit, done[i].last);
    }
    return done;
}

void Dram::run_program(int64_t runs) {
    std::vector<Completion> done;
    while (outstanding_ > 0 && (runs < 0 || program_size() > runs)) {
        now_ = upcoming();
        step_channels(done);
    }
}

int64_t Dram::precharges() const {
    int64_t total = 0;
    for (const auto& channel : channels_) total += channel->precharges();
    return total;
}

int64_t Dram::refreshes() const {
    int64_t total = 0;
    for (const auto& channel : channels_) total += channel->refreshes();
    return total;
}

int64_t Dram::active_ticks(int64_t now) const {
    int64_t total = 0;
    for (const auto& channel : channels_) total += channel->active_ticks(now);
    return total;
}

}  // namespace sparsecore::sim
