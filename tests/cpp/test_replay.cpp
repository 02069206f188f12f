// Replaying traces without Python: conservation, every cut of the text, long requests, errors.
#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "harness.h"
#include "sim/trace/replay.h"
#include "sim_config.h"

using namespace sparsecore::sim;
using sim_config::random_config;
using sim_config::small;

namespace {

struct Line {
    int64_t address, bytes;
    bool write;
    int label;
};

std::vector<Line> random_lines(int64_t capacity) {
    std::vector<Line> lines;
    for (int64_t i = harness::integer(0, 120); i > 0; --i) {
        const int64_t bytes = harness::integer(0, 100);
        const int64_t address = harness::integer(0, harness::pick<int64_t>({200, capacity - bytes}));
        lines.push_back({address, bytes, harness::integer(0, 2) == 0, static_cast<int>(harness::integer(0, 2))});
    }
    return lines;
}

std::string text_of(const std::vector<Line>& lines) {
    std::string text = "# labels\nR 0 0 a\nR 0 0 b\nR 0 0 c\n";
    for (const Line& line : lines) {
        text += (line.write ? "W " : "R ") + std::to_string(line.address) + " " + std::to_string(line.bytes) + " " +
                static_cast<char>('a' + line.label) + "\n";
    }
    return text;
}

int64_t capacity_of(const Organisation& o) {
    return o.channels * o.channel_banks() * o.rows * o.columns * o.burst_bytes;
}

bool same(const ReplayTotals& a, const ReplayTotals& b) {
    return a.ticks == b.ticks && a.merged == b.merged && a.precharges == b.precharges && a.refreshes == b.refreshes &&
           a.active_ticks == b.active_ticks && a.reads == b.reads && a.writes == b.writes;
}

}  // namespace

TEST(replay_conserves_bursts_and_bytes) {
    for (int round = 0; round < 100; ++round) {
        DramConfig config = random_config();
        const bool merge = harness::integer(0, 1) != 0;
        const std::vector<Line> lines = random_lines(capacity_of(config.organisation));
        Replay replay(config, merge, "trace");
        const std::string text = text_of(lines);
        replay.feed(text.data(), text.size());
        replay.finish();
        int64_t pieces = 0, asked[3] = {}, moved = 0, absorbed = 0;
        for (const Line& line : lines) {
            pieces += line.bytes == 0 ? 0 : (line.address + line.bytes - 1) / 32 - line.address / 32 + 1;
            asked[line.label] += line.bytes;
        }
        const ReplayTotals totals = replay.totals();
        for (size_t label = 0; label < 3; ++label) {
            const StreamCounts counts = replay.counts(label);
            CHECK(replay.stream(label).requested_bytes == asked[label]);
            CHECK(replay.useful_bytes(label) <= 32 * counts.bursts);
            moved += counts.bursts;
            absorbed += counts.absorbed;
        }
        CHECK(moved + absorbed + totals.merged == pieces);
        CHECK(merge || totals.merged == 0);
        CHECK(totals.reads + totals.writes == moved);
        const Organisation& o = config.organisation;
        CHECK(moved * config.timing.burst <= totals.ticks * o.channels * o.pseudo_channels);
    }
}

TEST(replay_cut_anywhere) {
    for (int round = 0; round < 20; ++round) {
        const DramConfig config = random_config();
        const std::string text = text_of(random_lines(capacity_of(config.organisation)));
        Replay whole(config, true, "trace"), pieces(config, true, "trace");
        whole.feed(text.data(), text.size());
        whole.finish();
        for (size_t begin = 0; begin < text.size();) {
            const auto size = std::min(static_cast<size_t>(harness::integer(0, 50)), text.size() - begin);
            pieces.feed(text.data() + begin, size);
            begin += size;
        }
        pieces.finish();
        CHECK(same(whole.totals(), pieces.totals()));
    }
}

TEST(replay_long_requests) {
    DramConfig config = small();
    config.organisation.rows = 1 << 14;
    config.map.back().bits = 14;
    for (const char* kind : {"R", "W"}) {
        Replay one(config, true, "trace"), many(config, true, "trace");
        const int64_t size = capacity_of(config.organisation);
        std::string text = std::string(kind) + " 0 " + std::to_string(size) + " x\n";
        one.feed(text.data(), text.size());
        one.finish();
        text.clear();
        for (int64_t address = 0; address < size; address += 8192) {
            text += std::string(kind) + " " + std::to_string(address) + " 8192 x\n";
        }
        many.feed(text.data(), text.size());
        many.finish();
        const ReplayTotals a = one.totals(), b = many.totals();
        CHECK(a.closed_form_bytes > 0 && b.closed_form_bytes == 0);
        CHECK(a.reads == b.reads && a.writes == b.writes && a.reads + a.writes == size / 32);
        CHECK(one.useful_bytes(0) == size && many.useful_bytes(0) == size);
        CHECK(1000 * std::abs(a.ticks - b.ticks) <= 5 * b.ticks);
        CHECK(50 * std::abs(one.counts(0).activations - many.counts(0).activations) <= many.counts(0).activations);
    }
}

TEST(replay_names_what_is_wrong) {
    Replay replay(small(), true, "a.trace");
    const std::string good = "R 0 32\n", bad = "R 0 thirty\n", beyond = "R 0x100000000 32\n";
    replay.feed(good.data(), good.size());
    CHECK_ERROR("CorruptFileError", replay.feed(bad.data(), bad.size()));
    Replay other(small(), true, "a.trace");
    CHECK_ERROR("InvalidValueError", other.feed(beyond.data(), beyond.size()));
    Replay late(small(), true, "a.trace");
    late.finish();
    CHECK_ERROR("InvalidValueError", late.feed(good.data(), good.size()));
    CHECK(late.totals().ticks == 0);
    DramConfig config = small();
    config.timing.burst = 0;
    CHECK_ERROR("ConfigError", Replay(config, true, "a.trace"));
}
