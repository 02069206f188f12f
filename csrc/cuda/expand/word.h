// Elements of an expanded weight as raw bits: what is written where a position is kept, and where it is pruned.
//
// Beside a product with the whole weight, 0 * inf must not become NaN where nothing is kept. So a weight that is about to be multiplied
// has its pruned positions marked: a zero with its sign bit. Kept zeros lose theirs. Marks of int8 weights are -128, which no value is.
#pragma once

#include "cuda/common/words.h"
#include "cuda/expand/args.h"
#include "cuda/ptx/thread.h"

namespace sparsecore::cuda::expand {

template <class Word>
SC_DEVICE constexpr Word sign_bit() {
    return static_cast<Word>(Word{1} << (sizeof(Word) * 8 - 1));
}
template <class Word>
SC_DEVICE Word pruned(const ExpandArgs& a) {
    return a.marks_pruned ? sign_bit<Word>() : Word{0};
}
template <class Word>
SC_DEVICE Word kept(const ExpandArgs& a, Word value) {
    return a.marks_pruned && value == sign_bit<Word>() ? Word{0} : value;
}

// Four elements of a row from `column` on; those outside the weight are not written.
template <class Word>
SC_DEVICE void write_quad(const ExpandArgs& a, std::int64_t row, std::int64_t column, const Word (&element)[4]) {
    if (row >= a.rows) return;
    Word* out = static_cast<Word*>(a.out) + row * a.cols;
SC_UNROLL
    for (int i = 0; i < 4; ++i) {
        if (column + i < a.cols) out[column + i] = element[i];
    }
}

}  // namespace sparsecore::cuda::expand
