// A set of a channel's banks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sparsecore::sim {

class BankSet {
public:
    void resize(int banks) { words_.assign(static_cast<size_t>((banks + 63) / 64), 0); }
    void insert(int bank) { words_[word(bank)] |= bit(bank); }
    void erase(int bank) { words_[word(bank)] &= ~bit(bank); }

    // visit(bank) for each, in ascending order.
    template <typename Visit>
    void for_each(Visit visit) const {
        for (size_t w = 0; w < words_.size(); ++w) visit_word(w, words_[w], [&](int bank) { visit(bank); return false; });
    }

    // In ascending order, from the bank after `start` round to `start` itself, until `visit(bank)` is true.
    template <typename Visit>
    void round_until(int start, Visit visit) const {
        const size_t first = word(start);
        const uint64_t behind = ~uint64_t{1} << (start % 64);
        if (visit_word(first, words_[first] & behind, visit)) return;
        for (size_t i = 1; i < words_.size(); ++i) {
            const size_t w = (first + i) % words_.size();
            if (visit_word(w, words_[w], visit)) return;
        }
        visit_word(first, words_[first] & ~behind, visit);
    }

private:
    template <typename Visit>
    static bool visit_word(size_t w, uint64_t left, Visit visit) {
        for (; left != 0; left &= left - 1) {
            if (visit(static_cast<int>(w * 64) + __builtin_ctzll(left))) return true;
        }
        return false;
    }

    static size_t word(int bank) { return static_cast<size_t>(bank) / 64; }
    static uint64_t bit(int bank) { return uint64_t{1} << (bank % 64); }
    std::vector<uint64_t> words_;
};

}  // namespace sparsecore::sim
