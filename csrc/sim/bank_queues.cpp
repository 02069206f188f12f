// Buffers of reads and of writes in front of one short queue for each bank, which are served in turn.
//
// In each tick one burst moves from the buffer of the current mode into its bank's queue. From the bank after the one
// served last, the first queue with a burst that can go on sends its command: the burst itself if its row is open, an
// activation, or, for the first burst of a queue, a precharge if no burst of the queue hits the row or the cap is
// reached. On a split bus a second command of the other kind may follow in the same tick.
#include <algorithm>

#include "sim/bank_set.h"
#include "sim/scheduler.h"

namespace sparsecore::sim {
namespace {

constexpr int kNone = -1;

class BankQueues final : public Scheduler {
public:
    BankQueues(const DramConfig& config, CommandPort& port, Refresher& refresher)
        : controller_(config.controller), port_(port), refresher_(refresher),
          banks_(static_cast<int>(config.organisation.channel_banks())) {
        reset();
    }

    void reset() override;
    bool empty() const override { return reads_.empty() && writes_.empty() && queued_ == 0; }
    bool room(bool write) const override {
        return static_cast<int64_t>((write ? writes_ : reads_).size()) <
               (write ? controller_.write_queue : controller_.read_queue);
    }
    void accept(const Burst& burst) override { (burst.write ? writes_ : reads_).push_back(burst); }
    bool waits(const Burst& burst, bool write) const override;
    bool step(Soonest& soonest, bool last, std::vector<Served>& served) override;

private:
    struct Choice {
        Kind kind = Kind::Read;
        int bank = kNone;
        size_t position = 0;  // in the bank's queue
    };

    std::vector<Burst>& queue(int bank) { return queues_[static_cast<size_t>(bank)]; }
    bool send_refresh(Soonest& soonest);
    Choice choose(Soonest& soonest);
    Choice first_ready(Soonest& soonest, int bank);
    Choice look(Soonest& soonest, int bank) const;
    bool may_close(int bank) const;
    bool auto_precharge(int bank, size_t position) const;
    void send(const Choice& choice, int64_t now, std::vector<Served>& served);
    bool move_one(bool last);

    Controller controller_;
    CommandPort& port_;
    Refresher& refresher_;
    int banks_;
    std::vector<Burst> reads_, writes_;
    std::vector<std::vector<Burst>> queues_;
    BankSet occupied_;  // banks whose queue is not empty
    // Nothing can be sent to a bank before this tick unless its queue or its row changes: what other banks do only
    // makes it later.
    std::vector<int64_t> not_before_;
    int64_t queued_ = 0;
    int last_ = 0;           // the bank served last
    int64_t draining_ = 0;  // writes still to be moved before reads
};

void BankQueues::reset() {
    reads_.clear();
    writes_.clear();
    queues_.assign(static_cast<size_t>(banks_), {});
    occupied_.resize(banks_);
    not_before_.assign(static_cast<size_t>(banks_), 0);
    queued_ = draining_ = 0;
    last_ = 0;
}

bool BankQueues::waits(const Burst& burst, bool write) const {
    const auto same = [&](const Burst& b) { return b.line == burst.line && b.write == write; };
    const std::vector<Burst>& buffer = write ? writes_ : reads_;
    const std::vector<Burst>& of_bank = queues_[static_cast<size_t>(burst.bank)];
    return std::any_of(of_bank.begin(), of_bank.end(), same) || std::any_of(buffer.begin(), buffer.end(), same);
}

bool BankQueues::step(Soonest& soonest, bool last, std::vector<Served>& served) {
    const bool refresh = send_refresh(soonest);
    bool sent = refresh, column = false;
    if (!sent) {
        const Choice first = choose(soonest);
        if (first.bank != kNone) {
            send(first, soonest.now, served);
            sent = true;
            column = is_column(first.kind);
        }
    }
    if (sent && port_.split_bus()) {
        const Choice second = choose(soonest);
        if (second.bank != kNone && is_column(second.kind) != column) send(second, soonest.now, served);
    }
    const bool moved = move_one(last);
    return sent || moved;
}

bool BankQueues::send_refresh(Soonest& soonest) {
    if (!refresher_.issue(soonest, [](int) { return false; })) return false;
    std::fill(not_before_.begin(), not_before_.end(), 0);  // rows may be closed
    return true;
}

BankQueues::Choice BankQueues::choose(Soonest& soonest) {
    Choice choice;
    occupied_.round_until(last_, [&](int bank) {
        if (!refresher_.stalls(bank)) choice = first_ready(soonest, bank);
        return choice.bank != kNone;
    });
    if (choice.bank != kNone) last_ = choice.bank;
    return choice;
}

BankQueues::Choice BankQueues::first_ready(Soonest& soonest, int bank) {
    int64_t& bound = not_before_[static_cast<size_t>(bank)];
    if (!soonest.reached(bound)) return {};
    Soonest of_bank{soonest.now};
    const Choice choice = look(of_bank, bank);
    if (choice.bank == kNone) {
        bound = of_bank.at;
        soonest.at = std::min(soonest.at, of_bank.at);
    }
    return choice;
}

BankQueues::Choice BankQueues::look(Soonest& soonest, int bank) const {
    const Device& device = port_.device();
    if (!device.open(bank)) {
        if (soonest.reached(port_.activate_ready(bank))) return {Kind::Activate, bank, 0};
        return {};
    }
    const std::vector<Burst>& bursts = queues_[static_cast<size_t>(bank)];
    if (bursts[0].row != device.row(bank) && may_close(bank) && soonest.reached(port_.precharge_ready(bank))) {
        return {Kind::Precharge, bank, 0};
    }
    bool tried[2] = {false, false};  // reads, writes
    for (size_t i = 0; i < bursts.size(); ++i) {
        const bool write = bursts[i].write;
        if (bursts[i].row != device.row(bank) || tried[write]) continue;
        if (soonest.reached(port_.column_ready(bank, write))) return {write ? Kind::Write : Kind::Read, bank, i};
        tried[write] = true;
    }
    return {};
}

// For the first burst of the queue, which needs another row.
bool BankQueues::may_close(int bank) const {
    const Device& device = port_.device();
    if (controller_.row_hit_cap > 0 && device.bursts_since_activation(bank) >= controller_.row_hit_cap) return true;
    const std::vector<Burst>& bursts = queues_[static_cast<size_t>(bank)];
    return std::none_of(bursts.begin(), bursts.end(), [&](const Burst& b) { return b.row == device.row(bank); });
}

bool BankQueues::auto_precharge(int bank, size_t position) const {
    if (controller_.rows != Rows::Adaptive) return controller_.rows == Rows::Closed;
    const std::vector<Burst>& bursts = queues_[static_cast<size_t>(bank)];
    for (size_t i = 0; i < bursts.size(); ++i) {
        if (i != position && bursts[i].row == bursts[position].row) return false;
    }
    return true;
}

void BankQueues::send(const Choice& choice, int64_t now, std::vector<Served>& served) {
    std::vector<Burst>& bursts = queue(choice.bank);
    not_before_[static_cast<size_t>(choice.bank)] = 0;
    if (choice.kind == Kind::Activate) {
        port_.activate(bursts[0], now);
    } else if (choice.kind == Kind::Precharge) {
        port_.precharge(choice.bank, now);
    } else {
        const Burst burst = bursts[choice.position];
        const bool close = auto_precharge(choice.bank, choice.position);
        bursts.erase(bursts.begin() + static_cast<std::ptrdiff_t>(choice.position));
        if (bursts.empty()) occupied_.erase(choice.bank);
        --queued_;
        port_.column(burst, now, close, served);
    }
}

bool BankQueues::move_one(bool last) {
    const auto waiting = static_cast<int64_t>(writes_.size());
    const int64_t idle = last && reads_.empty() ? 1 : controller_.write_idle;
    if (draining_ == 0 && (waiting >= controller_.write_high || (queued_ == 0 && waiting >= idle))) {
        draining_ = std::max<int64_t>(waiting - controller_.write_low, 1);
    }
    std::vector<Burst>& from = draining_ > 0 ? writes_ : reads_;
    for (auto it = from.begin(); it != from.end(); ++it) {
        std::vector<Burst>& to = queue(it->bank);
        if (static_cast<int64_t>(to.size()) >= controller_.bank_queue) continue;
        draining_ -= it->write ? 1 : 0;
        not_before_[static_cast<size_t>(it->bank)] = 0;
        to.push_back(*it);
        occupied_.insert(it->bank);
        from.erase(it);
        ++queued_;
        return true;
    }
    return false;
}

}  // namespace

std::unique_ptr<Scheduler> make_bank_queues(const DramConfig& config, CommandPort& port, Refresher& refresher) {
    return std::make_unique<BankQueues>(config, port, refresher);
}

}  // namespace sparsecore::sim
