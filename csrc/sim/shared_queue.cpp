// First-ready, first-come: one window of reads and one of writes over all banks of a channel.
//
// Only the window of the current mode is looked at. A burst that has opened a row leaves its window ("active"), is
// served before all others, and keeps the row open. A row is closed for the oldest burst of its bank, unless a burst
// that is not younger hits the row. Where an activation is two commands, the second goes when nothing else can, or at the
// latest after tAAD, and no other activation starts before it.
#include <algorithm>
#include <array>

#include "sim/bank_set.h"
#include "sim/scheduler.h"

namespace sparsecore::sim {
namespace {

constexpr int kNone = -1;

class SharedQueue final : public Scheduler {
public:
    SharedQueue(const DramConfig& config, CommandPort& port, Refresher& refresher)
        : controller_(config.controller), aad_(config.timing.aad), port_(port), refresher_(refresher),
          banks_(static_cast<int>(config.organisation.channel_banks())) {
        reset();
    }

    void reset() override;
    bool empty() const override { return windows_[0].size + windows_[1].size + active_count_ == 0; }
    bool room(bool write) const override {
        return windows_[write].size < (write ? controller_.write_queue : controller_.read_queue);
    }
    void accept(const Burst& burst) override;
    bool waits(const Burst& burst, bool write) const override;
    bool step(Soonest& soonest, bool last, std::vector<Served>& served) override;

private:
    struct Slot {
        Burst burst;
        int previous = kNone, next = kNone;
    };
    struct List {  // the bursts of one bank, oldest first
        int head = kNone, tail = kNone;
        int hit = kNone;  // the oldest one for the open row; stale while the bank is closed
    };
    struct Window {
        std::vector<List> lists;
        BankSet waiting, hits;
        int64_t size = 0;
    };
    struct Choice {
        int slot = kNone;
        Kind kind = Kind::Read;
        int64_t sequence = kNever;
    };

    const Burst& burst(int slot) const { return slots_[static_cast<size_t>(slot)].burst; }
    Window& window(bool write) { return windows_[write]; }
    static List& list(Window& w, int bank) { return w.lists[static_cast<size_t>(bank)]; }
    int& active(int bank) { return active_[static_cast<size_t>(bank)]; }
    bool held(int bank) const { return active_[static_cast<size_t>(bank)] != kNone; }

    void update_mode();
    void find_hit(Window& w, int bank, int from);
    void unlink(int slot);
    bool column_slot(Soonest& soonest, std::vector<Served>& served);
    bool row_slot(Soonest& soonest);
    bool shared_slot(Soonest& soonest, std::vector<Served>& served);
    bool second_activate(Soonest& soonest);
    void offer_active(Soonest& soonest, Choice& choice);
    void offer_hits(Soonest& soonest, Choice& choice);
    void offer_rows(Soonest& soonest, Choice& choice);
    bool may_close(const List& of_bank, int bank) const;
    void send_column(const Choice& choice, int64_t now, std::vector<Served>& served);
    void send_row(const Choice& choice, int64_t now);
    bool auto_precharge(int slot);

    Controller controller_;
    int64_t aad_;
    CommandPort& port_;
    Refresher& refresher_;
    int banks_;
    std::vector<Slot> slots_;
    std::vector<int> free_;
    std::array<Window, 2> windows_;  // reads, writes
    std::vector<int> active_;        // by bank: the slot of the burst that opened the row and is not yet served
    BankSet active_set_;
    int64_t active_count_ = 0;
    bool write_mode_ = false, last_ = true;
    int64_t second_due_ = kNever;  // latest tick of the second command of an activation under way
};

void SharedQueue::reset() {
    slots_.clear();
    free_.clear();
    for (Window& w : windows_) {
        w.lists.assign(static_cast<size_t>(banks_), List{});
        w.waiting.resize(banks_);
        w.hits.resize(banks_);
        w.size = 0;
    }
    active_.assign(static_cast<size_t>(banks_), kNone);
    active_set_.resize(banks_);
    active_count_ = 0;
    write_mode_ = false;
    last_ = true;
    second_due_ = kNever;
}

void SharedQueue::accept(const Burst& burst) {
    int slot;
    if (free_.empty()) {
        slot = static_cast<int>(slots_.size());
        slots_.emplace_back();
    } else {
        slot = free_.back();
        free_.pop_back();
    }
    Window& w = window(burst.write);
    List& of_bank = list(w, burst.bank);
    slots_[static_cast<size_t>(slot)] = {burst, of_bank.tail, kNone};
    (of_bank.tail == kNone ? of_bank.head : slots_[static_cast<size_t>(of_bank.tail)].next) = slot;
    of_bank.tail = slot;
    w.waiting.insert(burst.bank);
    ++w.size;
    if (burst.row == port_.device().row(burst.bank) && of_bank.hit == kNone) {
        of_bank.hit = slot;
        w.hits.insert(burst.bank);
    }
}

bool SharedQueue::waits(const Burst& other, bool write) const {
    const List& of_bank = windows_[write].lists[static_cast<size_t>(other.bank)];
    for (int s = of_bank.head; s != kNone; s = slots_[static_cast<size_t>(s)].next) {
        if (burst(s).line == other.line) return true;
    }
    return false;
}

void SharedQueue::update_mode() {
    const int64_t reads = windows_[0].size, writes = windows_[1].size;
    if (!write_mode_) {
        const int64_t idle = last_ ? 1 : controller_.write_idle;
        write_mode_ = writes >= controller_.write_high || (reads == 0 && writes >= idle);
    } else {
        write_mode_ = writes > controller_.write_low || reads == 0;
    }
}

void SharedQueue::find_hit(Window& w, int bank, int from) {
    List& of_bank = list(w, bank);
    const int64_t row = port_.device().row(bank);
    int s = from;
    while (s != kNone && burst(s).row != row) s = slots_[static_cast<size_t>(s)].next;
    of_bank.hit = s;
    if (s == kNone) {
        w.hits.erase(bank);
    } else {
        w.hits.insert(bank);
    }
}

// Takes a burst out of its window; its slot stays in use.
void SharedQueue::unlink(int slot) {
    const Slot entry = slots_[static_cast<size_t>(slot)];
    Window& w = window(entry.burst.write);
    List& of_bank = list(w, entry.burst.bank);
    (entry.previous == kNone ? of_bank.head : slots_[static_cast<size_t>(entry.previous)].next) = entry.next;
    (entry.next == kNone ? of_bank.tail : slots_[static_cast<size_t>(entry.next)].previous) = entry.previous;
    if (of_bank.hit == slot) find_hit(w, entry.burst.bank, entry.next);
    if (of_bank.head == kNone) w.waiting.erase(entry.burst.bank);
    --w.size;
}

bool SharedQueue::step(Soonest& soonest, bool last, std::vector<Served>& served) {
    last_ = last;
    if (!port_.split_bus()) return shared_slot(soonest, served);
    const bool column = column_slot(soonest, served);  // first: the row command sees the row without this burst
    const bool row = row_slot(soonest);
    return column || row;
}

bool SharedQueue::column_slot(Soonest& soonest, std::vector<Served>& served) {
    Choice choice;
    offer_active(soonest, choice);
    if (choice.slot == kNone && !refresher_.stalls_channel()) {
        update_mode();
        offer_hits(soonest, choice);
    }
    if (choice.slot == kNone) return false;
    send_column(choice, soonest.now, served);
    return true;
}

bool SharedQueue::row_slot(Soonest& soonest) {
    if (refresher_.issue(soonest, [this](int bank) { return held(bank); })) return true;
    if (refresher_.stalls_channel()) return false;
    update_mode();
    Choice choice;
    offer_rows(soonest, choice);
    if (choice.slot == kNone) return false;
    send_row(choice, soonest.now);
    return true;
}

bool SharedQueue::shared_slot(Soonest& soonest, std::vector<Served>& served) {
    if (second_due_ <= soonest.now) return second_activate(soonest);
    Choice choice;
    offer_active(soonest, choice);
    if (choice.slot == kNone) {
        if (refresher_.issue(soonest, [this](int bank) { return held(bank); })) return true;
        if (!refresher_.stalls_channel()) {
            update_mode();
            offer_hits(soonest, choice);
            offer_rows(soonest, choice);
        }
    }
    if (choice.slot == kNone) return second_due_ != kNever && second_activate(soonest);
    if (is_column(choice.kind)) {
        send_column(choice, soonest.now, served);
    } else {
        send_row(choice, soonest.now);
    }
    return true;
}

bool SharedQueue::second_activate(Soonest& soonest) {
    if (!soonest.reached(port_.available(Kind::Activate, 0))) return false;
    port_.activate_second(soonest.now);
    second_due_ = kNever;
    return true;
}

void SharedQueue::offer_active(Soonest& soonest, Choice& choice) {
    if (active_count_ == 0 || !soonest.reached(port_.available(Kind::Read, 0))) return;
    active_set_.for_each([&](int bank) {
        const int slot = active(bank);
        const Burst& b = burst(slot);
        if (soonest.reached(port_.column_ready(bank, b.write)) && b.sequence < choice.sequence) {
            choice = {slot, b.write ? Kind::Write : Kind::Read, b.sequence};
        }
    });
}

void SharedQueue::offer_hits(Soonest& soonest, Choice& choice) {
    Window& w = window(write_mode_);
    if (w.size == 0 || !soonest.reached(port_.available(Kind::Read, 0))) return;
    w.hits.for_each([&](int bank) {
        if (!port_.device().open(bank) || refresher_.stalls(bank)) return;
        const int slot = list(w, bank).hit;
        const Burst& b = burst(slot);
        if (soonest.reached(port_.column_ready(bank, b.write)) && b.sequence < choice.sequence) {
            choice = {slot, b.write ? Kind::Write : Kind::Read, b.sequence};
        }
    });
}

void SharedQueue::offer_rows(Soonest& soonest, Choice& choice) {
    Window& w = window(write_mode_);
    if (w.size == 0 || !soonest.reached(port_.available(Kind::Precharge, 0))) return;
    w.waiting.for_each([&](int bank) {
        if (refresher_.stalls(bank)) return;
        const List& of_bank = list(w, bank);
        const Burst& oldest = burst(of_bank.head);
        const bool open = port_.device().open(bank);
        if (open ? !may_close(of_bank, bank) : second_due_ != kNever) return;
        const int64_t ready = open ? port_.precharge_ready(bank) : port_.activate_ready(bank);
        if (soonest.reached(ready) && oldest.sequence < choice.sequence) {
            choice = {of_bank.head, open ? Kind::Precharge : Kind::Activate, oldest.sequence};
        }
    });
}

// For the oldest burst of the bank, which needs another row.
bool SharedQueue::may_close(const List& of_bank, int bank) const {
    const Device& device = port_.device();
    const Burst& oldest = burst(of_bank.head);
    if (held(bank) || oldest.row == device.row(bank)) return false;
    if (of_bank.hit == kNone || burst(of_bank.hit).accepted > oldest.accepted) return true;
    return controller_.row_hit_cap > 0 && device.bursts_since_activation(bank) >= controller_.row_hit_cap;
}

bool SharedQueue::auto_precharge(int slot) {
    const int bank = burst(slot).bank;
    if (held(bank) && active(bank) != slot) return false;
    if (controller_.rows != Rows::Adaptive) return controller_.rows == Rows::Closed;
    for (Window& w : windows_) {
        const int hit = list(w, bank).hit;
        if (hit != kNone && hit != slot) return false;
        if (hit == slot) {
            int s = slots_[static_cast<size_t>(slot)].next;
            while (s != kNone && burst(s).row != burst(slot).row) s = slots_[static_cast<size_t>(s)].next;
            if (s != kNone) return false;
        }
    }
    return true;
}

void SharedQueue::send_column(const Choice& choice, int64_t now, std::vector<Served>& served) {
    const int slot = choice.slot;
    const Burst b = burst(slot);
    const bool close = auto_precharge(slot);
    if (active(b.bank) == slot) {
        active(b.bank) = kNone;
        active_set_.erase(b.bank);
        --active_count_;
    } else {
        unlink(slot);
    }
    free_.push_back(slot);
    port_.column(b, now, close, served);
}

void SharedQueue::send_row(const Choice& choice, int64_t now) {
    const Burst& b = burst(choice.slot);
    const int bank = b.bank;
    if (choice.kind == Kind::Precharge) {
        port_.precharge(bank, now);
        return;
    }
    port_.activate(b, now);
    if (aad_ > 0) second_due_ = now + aad_;
    unlink(choice.slot);
    active(bank) = choice.slot;
    active_set_.insert(bank);
    ++active_count_;
    for (Window& w : windows_) find_hit(w, bank, list(w, bank).head);
}

}  // namespace

std::unique_ptr<Scheduler> make_shared_queue(const DramConfig& config, CommandPort& port, Refresher& refresher) {
    return std::make_unique<SharedQueue>(config, port, refresher);
}

}  // namespace sparsecore::sim
