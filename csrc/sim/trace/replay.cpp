#include "sim/trace/replay.h"

#include <algorithm>
#include <utility>

namespace sparsecore::sim {
namespace {

constexpr int64_t kLongSamples = 4;
constexpr int64_t kLeastSample = int64_t{4} << 20;  // bytes
constexpr int64_t kRefreshesInSample = 24;  // one more or less in the sample is below 0.5 % of its time
constexpr int64_t kProgramHigh = 8192, kProgramLow = 4096;  // requests waiting to be sent
constexpr size_t kBatch = 1024;

// Bytes after which a sequential stream does the same again: several refresh intervals, whole rows of all banks.
int64_t sample_bytes(const DramConfig& config) {
    const Organisation& o = config.organisation;
    const int64_t rows = o.channels * o.channel_banks() * o.columns * o.burst_bytes;
    const int64_t per_tick = o.channels * o.pseudo_channels * o.burst_bytes;  // at most: a burst takes a tick or more
    const int64_t refreshes = kRefreshesInSample * config.timing.refi * per_tick / config.timing.burst;
    return (std::max(kLeastSample, refreshes) + rows - 1) / rows * rows;
}

}  // namespace

Replay::Replay(const DramConfig& config, bool merge, std::string source)
    : dram_(config, kMostLabels), reader_(dram_.capacity(), std::move(source)), merge_(merge),
      sample_bytes_(sample_bytes(config)), batch_(kBatch), streams_(kMostLabels), skipped_counts_(kMostLabels),
      finished_streams_(kMostLabels), timeline_(config.organisation.channels, config.organisation.channel_banks()) {
    dram_.reset(0);
    dram_.observe(this);
}

void Replay::feed(const char* text, size_t size) {
    reader_.feed(text, size);
    parse();
}

void Replay::finish() {
    reader_.finish();
    parse();
    dram_.run_program(-1);
}

void Replay::parse() {
    for (size_t n = reader_.next(batch_.data(), batch_.size()); n > 0; n = reader_.next(batch_.data(), batch_.size())) {
        for (size_t i = 0; i < n; ++i) add(batch_[i]);
        if (dram_.program_size() > kProgramHigh) dram_.run_program(kProgramLow);
    }
}

void Replay::add(const TraceRequest& request) {
    if (request.reset >= 0) return start_run(request.reset);
    StreamRecord& stream = streams_[static_cast<size_t>(request.label)];
    if (!stream.useful) stream.useful = std::make_unique<Coverage>(dram_.capacity());
    ++stream.requests;
    stream.requested_bytes += request.bytes;
    const bool program_order = dram_.config().admission.program_order;
    if (!program_order && request.cycle >= 0) dram_.run_until(request.cycle);
    if (program_order && request.bytes > kLongSamples * sample_bytes_) {
        add_long(request);
    } else {
        append(request, request.address, request.bytes);
    }
}

void Replay::append(const TraceRequest& request, int64_t address, int64_t bytes) {
    const int64_t time = std::max<int64_t>(request.cycle - skipped_.ticks, 0);
    dram_.append(time, address, bytes, request.label, request.write, merge_ && !request.apart);
}

// Adds up what the run so far did, and starts the next one.
void Replay::start_run(int64_t refresh_phase) {
    dram_.run_program(-1);
    finished_ = totals();
    for (size_t label = 0; label < labels().size(); ++label) {
        finished_streams_[label] = {counts(label), latency(label), useful_bytes(label)};
        skipped_counts_[label] = StreamCounts{};
        if (streams_[label].useful) streams_[label].useful = std::make_unique<Coverage>(dram_.capacity());
    }
    skipped_ = ReplayTotals{};
    offset_ = finished_.ticks;
    newest_order_ = -1;
    newest_absorbed_ = false;
    late_merges_.clear();
    dram_.reset(refresh_phase);
}

void Replay::add_long(const TraceRequest& request) {
    append(request, request.address, sample_bytes_);
    dram_.run_program(0);
    const Snapshot from = snapshot(request.label);
    append(request, request.address + sample_bytes_, sample_bytes_);
    dram_.run_program(0);
    const Snapshot to = snapshot(request.label);
    const int64_t left = request.bytes - 2 * sample_bytes_;
    const int64_t samples = left / sample_bytes_ - 1;
    skip(request, from, to, samples);
    const int64_t done = (2 + samples) * sample_bytes_;
    append(request, request.address + done, request.bytes - done);
}

Replay::Snapshot Replay::snapshot(int32_t label) const {
    return {dram_.now(), dram_.precharges(), dram_.refreshes(), dram_.active_ticks(dram_.now()),
            dram_.counts()[static_cast<size_t>(label)], timeline_.banks()};
}

void Replay::skip(const TraceRequest& request, const Snapshot& from, const Snapshot& to, int64_t samples) {
    const int64_t ticks = samples * (to.now - from.now);
    const int64_t bytes = samples * sample_bytes_, first = to.now + offset_;
    StreamCounts& counts = skipped_counts_[static_cast<size_t>(request.label)];
    const int64_t hits = samples * (to.counts.row_hits - from.counts.row_hits);
    const int64_t activations = samples * (to.counts.activations - from.counts.activations);
    const int64_t bursts = bytes / dram_.config().organisation.burst_bytes;
    counts.bursts += bursts;
    counts.row_hits += hits;
    counts.activations += activations;
    (request.write ? writes_ : reads_) += bursts;
    skipped_.precharges += samples * (to.precharges - from.precharges);
    skipped_.refreshes += samples * (to.refreshes - from.refreshes);
    skipped_.active_ticks += samples * (to.active_ticks - from.active_ticks);
    skipped_.closed_form_bytes += bytes;
    timeline_.spread(first, first + ticks, {request.write ? 0 : bytes, request.write ? bytes : 0, bursts, hits, activations});
    const int64_t banks = dram_.config().organisation.channel_banks();
    for (size_t b = 0; b < to.banks.size(); ++b) {
        const auto bank = static_cast<int64_t>(b);
        timeline_.add_to_bank(bank / banks, bank % banks, {samples * (to.banks[b].bursts - from.banks[b].bursts),
                                                           samples * (to.banks[b].activations - from.banks[b].activations)});
    }
    streams_[static_cast<size_t>(request.label)].useful->add(request.address + 2 * sample_bytes_, bytes);
    skipped_.ticks += ticks;
    offset_ += ticks;
}

void Replay::cover(const Burst& burst, int32_t low, int32_t high) {
    streams_[static_cast<size_t>(burst.stream)].useful->add(
        burst.line * dram_.config().organisation.burst_bytes + low, high - low);
}

void Replay::served(const Served& served, int channel) {
    const Burst& burst = served.burst;
    if (burst.order > newest_order_) {
        newest_order_ = burst.order;
        newest_absorbed_ = served.absorbed;
    }
    if (!late_merges_.empty()) finish_merges(burst, served.absorbed);
    if (served.absorbed) return;
    ++(burst.write ? writes_ : reads_);
    cover(burst, burst.low, burst.high);
    const int64_t bytes = dram_.config().organisation.burst_bytes;
    timeline_.add_burst(served.start + offset_, bytes, burst.write, served.hit, channel, burst.bank);
    if (!served.hit) timeline_.add_activation(served.start + offset_, channel, burst.bank);
}

void Replay::finish_merges(const Burst& burst, bool absorbed) {
    auto it = std::lower_bound(late_merges_.begin(), late_merges_.end(), burst.order,
                               [](const LateMerge& merge, int64_t order) { return merge.order < order; });
    for (; it != late_merges_.end() && it->order == burst.order; ++it) {
        if (!absorbed) cover(burst, it->low, it->high);
        it->high = it->low;
    }
    while (!late_merges_.empty() && late_merges_.front().high == late_merges_.front().low) late_merges_.pop_front();
}

// A burst merges into the one cut just before it, so only the newest burst can have been served already.
void Replay::merged(const Burst& into, int32_t low, int32_t high) {
    if (into.order != newest_order_) {
        late_merges_.push_back({into.order, low, high});
    } else if (!newest_absorbed_) {
        cover(into, low, high);
    }
}

LatencyHistogram Replay::latency() const {
    LatencyHistogram all;
    for (size_t label = 0; label < labels().size(); ++label) all.merge(latency(label));
    return all;
}

LatencyHistogram Replay::latency(size_t label) const {
    LatencyHistogram latency = finished_streams_[label].latency;
    latency.merge(dram_.latency(label));
    return latency;
}

int64_t Replay::useful_bytes(size_t label) const {
    const Coverage* now = streams_[label].useful.get();
    return finished_streams_[label].useful + (now == nullptr ? 0 : now->unique_bytes());
}

StreamCounts Replay::counts(size_t label) const {
    StreamCounts counts = dram_.counts()[label];
    for (const StreamCounts& other : {skipped_counts_[label], finished_streams_[label].counts}) {
        counts.bursts += other.bursts;
        counts.absorbed += other.absorbed;
        counts.activations += other.activations;
        counts.row_hits += other.row_hits;
    }
    return counts;
}

ReplayTotals Replay::totals() const {
    const ReplayTotals &done = finished_, &skipped = skipped_;
    ReplayTotals totals;
    totals.ticks = done.ticks + skipped.ticks + dram_.last_data();
    totals.merged = done.merged + dram_.merged();
    totals.precharges = done.precharges + skipped.precharges + dram_.precharges();
    totals.refreshes = done.refreshes + skipped.refreshes + dram_.refreshes();
    totals.active_ticks = done.active_ticks + skipped.active_ticks + dram_.active_ticks(dram_.last_data());
    totals.closed_form_bytes = done.closed_form_bytes + skipped.closed_form_bytes;
    totals.reads = reads_;
    totals.writes = writes_;
    return totals;
}

}  // namespace sparsecore::sim
