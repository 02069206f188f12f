#include "sim/channel.h"

namespace sparsecore::sim {
namespace {

int64_t later(int64_t a, int64_t b) { return a > b ? a : b; }
void raise(int64_t& value, int64_t floor) { value = later(value, floor); }

}  // namespace

Channel::Channel(const DramConfig& config, std::vector<StreamCounts>& counts)
    : organisation_(config.organisation), timing_(config.timing), admission_(config.admission), counts_(counts) {
    reset(0);
}

void Channel::reset(int64_t refresh_phase) {
    Pseudo pseudo;
    pseudo.banks.resize(static_cast<size_t>(organisation_.banks()));
    pseudo.groups.resize(static_cast<size_t>(organisation_.bank_groups));
    pseudo.next_refresh = timing_.refi > 0 ? timing_.refi - refresh_phase : kNever;
    pseudos_.assign(static_cast<size_t>(organisation_.pseudo_channels), pseudo);
    pending_.clear();
    waiting_ = next_admission_ = column_free_ = row_free_ = 0;
    next_ = soonest_ = kNever;
    held_back_ = false;
}

void Channel::push(const Burst& burst) {
    pending_.push_back(burst);
    wake(burst.arrival);
}

void Channel::step(int64_t now, int64_t limit, std::vector<Served>& served) {
    refresh_due(now);
    admit(now, limit);
    Choice column, row;
    scan(now, column, row);
    const bool issued = column.bank >= 0 || row.bank >= 0;
    // The column command goes first: it may have been the reason to keep a row open.
    if (column.bank >= 0) issue_column(column, now, served);
    if (row.bank >= 0) issue_row(row, now);

    next_ = issued ? now + 1 : soonest_;
    if (waiting_ > 0) {
        for (const Pseudo& pseudo : pseudos_) wake(pseudo.next_refresh);
    }
    if (!pending_.empty() && waiting_ < admission_.depth && !held_back_) {
        wake(later(later(pending_.front().arrival, next_admission_), now + 1));
    }
    if (waiting_ == 0 && (pending_.empty() || held_back_)) next_ = kNever;
}

void Channel::admit(int64_t now, int64_t limit) {
    held_back_ = false;
    if (pending_.empty() || waiting_ >= admission_.depth || next_admission_ > now) return;
    const Burst& burst = pending_.front();
    if (burst.arrival > now) return;
    if (burst.order >= limit) {
        held_back_ = true;
        return;
    }
    Pseudo& pseudo = pseudos_[static_cast<size_t>(burst.pseudo)];
    Bank& bank = pseudo.banks[static_cast<size_t>(burst.bank)];
    bank.queue.push_back({burst.order, burst.request, burst.row, burst.stream, burst.write});
    if (bank.hit < 0 && burst.row == bank.open_row) bank.hit = static_cast<int>(bank.queue.size()) - 1;
    pseudo.waiting |= uint64_t{1} << burst.bank;
    ++waiting_;
    next_admission_ = now + 1;
    pending_.pop_front();
}

void Channel::refresh_due(int64_t now) {
    for (Pseudo& pseudo : pseudos_) {
        while (pseudo.next_refresh <= now) refresh(pseudo, pseudo.next_refresh);
    }
}

// All-bank refresh: every row is closed as soon as its timing allows, and no bank opens again before tRFC has passed.
void Channel::refresh(Pseudo& pseudo, int64_t due) {
    int64_t start = due;
    for (const Bank& bank : pseudo.banks) raise(start, bank.open_row >= 0 ? bank.pre_ok + timing_.rp : bank.act_ok);
    for (Bank& bank : pseudo.banks) {
        if (bank.open_row >= 0) raise(start, due + timing_.rp);
    }
    for (Bank& bank : pseudo.banks) {
        bank.open_row = -1;
        bank.hit = -1;
        bank.act_ok = start + timing_.rfc;
    }
    pseudo.next_refresh += timing_.refi;
}

void Channel::offer(int64_t ready, int64_t now, int64_t order, int pseudo, int bank, Choice& choice) {
    if (ready > now) {
        soonest_ = ready < soonest_ ? ready : soonest_;
    } else if (order < choice.order) {
        choice = {order, pseudo, bank};
    }
}

void Channel::scan(int64_t now, Choice& column, Choice& row) {
    soonest_ = kNever;
    for (size_t p = 0; p < pseudos_.size(); ++p) {
        Pseudo& pseudo = pseudos_[p];
        const int64_t faw_ok = pseudo.recent_acts[pseudo.oldest_act] + timing_.faw;
        for (uint64_t left = pseudo.waiting; left != 0; left &= left - 1) {
            const int b = __builtin_ctzll(left);
            const Bank& bank = pseudo.banks[static_cast<size_t>(b)];
            const Group& group = pseudo.groups[static_cast<size_t>(b / organisation_.banks_per_group)];
            if (bank.hit >= 0) {
                const Entry& entry = bank.queue[static_cast<size_t>(bank.hit)];
                int64_t ready = entry.write ? later(later(bank.write_ok, group.write_ok), pseudo.write_ok)
                                            : later(later(bank.read_ok, group.read_ok), pseudo.read_ok);
                offer(later(ready, column_free_), now, entry.order, static_cast<int>(p), b, column);
            } else {
                int64_t ready = bank.open_row >= 0
                                    ? bank.pre_ok
                                    : later(later(bank.act_ok, faw_ok), later(group.act_ok, pseudo.act_ok));
                offer(later(ready, row_free_), now, bank.queue.front().order, static_cast<int>(p), b, row);
            }
        }
    }
}

void Channel::find_hit(Bank& bank, size_t from) {
    bank.hit = -1;
    for (size_t i = from; i < bank.queue.size(); ++i) {
        if (bank.queue[i].row == bank.open_row) {
            bank.hit = static_cast<int>(i);
            return;
        }
    }
}

void Channel::issue_column(const Choice& choice, int64_t now, std::vector<Served>& served) {
    const Timing& t = timing_;
    Pseudo& pseudo = pseudos_[static_cast<size_t>(choice.pseudo)];
    Bank& bank = pseudo.banks[static_cast<size_t>(choice.bank)];
    Group& group = pseudo.groups[static_cast<size_t>(choice.bank / organisation_.banks_per_group)];
    const size_t position = static_cast<size_t>(bank.hit);
    const Entry entry = bank.queue[position];
    bank.queue.erase(bank.queue.begin() + bank.hit);
    find_hit(bank, position);  // entries before it belong to other rows
    if (bank.queue.empty()) pseudo.waiting &= ~(uint64_t{1} << choice.bank);
    --waiting_;
    column_free_ = now + 1;
    const int64_t data = now + (entry.write ? t.cwl : t.cl);
    if (entry.write) {
        raise(pseudo.write_ok, now + t.ccd_short);
        raise(group.write_ok, now + t.ccd_long);
        raise(pseudo.read_ok, data + t.burst + t.wtr_short);
        raise(group.read_ok, data + t.burst + t.wtr_long);
        raise(bank.pre_ok, data + t.burst + t.wr);
    } else {
        raise(pseudo.read_ok, now + t.ccd_short);
        raise(group.read_ok, now + t.ccd_long);
        raise(pseudo.write_ok, now + t.rtw);
        raise(bank.pre_ok, now + t.rtp);
    }
    StreamCounts& counts = counts_[static_cast<size_t>(entry.stream)];
    ++counts.bursts;
    counts.row_hits += bank.fresh ? 0 : 1;
    bank.fresh = false;
    served.push_back({entry.order, entry.request, data, data + t.burst});
}

void Channel::issue_row(const Choice& choice, int64_t now) {
    const Timing& t = timing_;
    Pseudo& pseudo = pseudos_[static_cast<size_t>(choice.pseudo)];
    Bank& bank = pseudo.banks[static_cast<size_t>(choice.bank)];
    if (bank.open_row >= 0) {
        bank.open_row = -1;
        raise(bank.act_ok, now + t.rp);
        row_free_ = now + t.pre_slots;
        return;
    }
    Group& group = pseudo.groups[static_cast<size_t>(choice.bank / organisation_.banks_per_group)];
    const Entry& entry = bank.queue.front();
    bank.open_row = entry.row;
    bank.fresh = true;
    bank.hit = 0;
    bank.read_ok = now + t.rcd_read;
    bank.write_ok = now + t.rcd_write;
    bank.pre_ok = now + t.ras;
    raise(pseudo.act_ok, now + t.rrd_short);
    raise(group.act_ok, now + t.rrd_long);
    pseudo.recent_acts[pseudo.oldest_act] = now;
    pseudo.oldest_act = (pseudo.oldest_act + 1) % 4;
    row_free_ = now + t.act_slots;
    ++counts_[static_cast<size_t>(entry.stream)].activations;
}

}  // namespace sparsecore::sim
