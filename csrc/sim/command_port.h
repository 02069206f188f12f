// The command bus (or the row and the column bus) of a channel: sends commands to the device and counts them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "sim/device.h"

namespace sparsecore::sim {

// A burst in a channel's queues. `sequence` numbers the bursts of the channel in the order of their acceptance.
struct Burst {
    int64_t order = 0;     // position in program order over the whole run
    int64_t time = 0;      // tick from which on it may be sent
    int64_t request = 0, line = 0, row = 0;
    int64_t accepted = 0, sequence = 0;
    int32_t bank = 0, stream = 0;
    int32_t low = 0, high = 0;  // the bytes of the line that were asked for: [low, high)
    int32_t joined = 0;         // further bytes of the line that a later row of the same request asked for
    bool write = false;
};

struct StreamCounts {
    int64_t bursts = 0, activations = 0, row_hits = 0;  // a hit: not the first burst after its row's activation
    int64_t asked_bytes = 0;  // of the bytes of `bursts`, those that requests asked for
    int64_t absorbed = 0;     // bursts that a waiting one of the same line stood for; they are not in `bursts`
};

// Told about every burst: its data cross the pins from tick `start` to `done`, unless it was absorbed.
struct Served {
    Burst burst;
    int64_t start, done;
    bool hit, absorbed;
};

enum class Kind { Activate, Precharge, Read, Write, Refresh };
constexpr bool is_column(Kind kind) { return kind == Kind::Read || kind == Kind::Write; }

// Collects, while a scheduler looks for what can be sent now, the earliest tick at which anything else can.
struct Soonest {
    int64_t now = 0, at = kNever;

    bool reached(int64_t ready) {
        if (ready <= now) return true;
        at = ready < at ? ready : at;
        return false;
    }
};

class CommandPort {
public:
    CommandPort(const DramConfig& config, std::vector<StreamCounts>& streams);

    void reset();
    void start_tick(int64_t now) { now_ = now; }

    const Device& device() const { return device_; }
    bool split_bus() const { return controller_.split_bus; }

    // First tick from this one and from `ready` on at which the bus is free for a command of this kind.
    int64_t available(Kind kind, int64_t ready) const {
        const int64_t at = std::max({ready, is_column(kind) ? column_free_ : row_free_, now_});
        const bool aligned = controller_.align == 1 || kind == Kind::Precharge;
        return aligned ? at : at + (at & 1);
    }
    int64_t column_ready(int bank, bool write) const {
        return write ? available(Kind::Write, device_.write_ready(bank)) : available(Kind::Read, device_.read_ready(bank));
    }
    int64_t activate_ready(int bank) const { return available(Kind::Activate, device_.activate_ready(bank)); }
    int64_t precharge_ready(int bank) const { return available(Kind::Precharge, device_.precharge_ready(bank)); }

    void column(const Burst& burst, int64_t now, bool auto_precharge, std::vector<Served>& served);
    void activate(const Burst& burst, int64_t now);
    void activate_second(int64_t now) { occupy(Kind::Activate, now); }
    void precharge(int bank, int64_t now);
    void precharge_all(int unit, int64_t now);
    void refresh(int unit, int64_t now);
    void refresh_bank(int bank, int64_t now);

    void count_refreshes(int64_t sent) { refreshes_ += sent; }  // of rows that are closed all along

    int64_t precharges() const { return precharges_; }
    int64_t refreshes() const { return refreshes_; }

private:
    void occupy(Kind kind, int64_t now);

    Controller controller_;
    Timing timing_;
    Device device_;
    std::vector<StreamCounts>& streams_;
    int64_t now_ = 0, column_free_ = 0, row_free_ = 0;
    int64_t precharges_ = 0, refreshes_ = 0;
};

}  // namespace sparsecore::sim
