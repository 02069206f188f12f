#include "cpu/topk/row.h"

#include <algorithm>
#include <cstring>

namespace sparsecore::cpu {

namespace {

template <class T>
void copy_of(const T* in, int64_t in_stride, int64_t count, T* out, int64_t out_stride) {
    if (in_stride == 1 && out_stride == 1) {
        std::memcpy(out, in, static_cast<size_t>(count) * sizeof(T));
        return;
    }
    for (int64_t i = 0; i < count; ++i) out[i * out_stride] = in[i * in_stride];
}

}  // namespace

void copy_elements(core::DType dtype, const void* in, int64_t in_stride, int64_t count, void* out,
                   int64_t out_stride) {
    if (dtype == core::DType::F32) {
        copy_of(static_cast<const uint32_t*>(in), in_stride, count, static_cast<uint32_t*>(out), out_stride);
    } else {
        copy_of(static_cast<const uint16_t*>(in), in_stride, count, static_cast<uint16_t*>(out), out_stride);
    }
}

TopkRow::TopkRow(const core::Span& x, const TopkKernels& kernels)
    : x_(x), kernels_(kernels), n_(x.shape[1]), item_(core::itemsize(x.dtype)), kept_(n_ <= kKeptRow) {
    const int64_t held = kept_ ? n_ : kTopkChunk;
    digits_.reserve((held + kTopkPadding) * 2);
    if (x.strides[1] != 1) copy_.reserve(held * item_);
}

void TopkRow::select(int64_t row) {
    row_ = x_.as<const char>() + row * x_.strides[0] * item_;
    if (kept_) {
        if (x_.strides[1] != 1) copy_elements(x_.dtype, row_, x_.strides[1], n_, copy_.as<void>(), 1);
        const void* elements = x_.strides[1] == 1 ? row_ : copy_.as<const char>();
        kernels_.digits(x_.dtype, elements, n_, digits_.as<int16_t>());
    }
}

TopkRow::Chunk TopkRow::chunk(int64_t begin, int64_t count) {
    const char* elements = row_ + begin * x_.strides[1] * item_;
    if (kept_) {
        if (x_.strides[1] != 1) elements = copy_.as<const char>() + begin * item_;
        return {elements, digits_.as<int16_t>() + begin};
    }
    if (x_.strides[1] != 1) {
        copy_elements(x_.dtype, elements, x_.strides[1], count, copy_.as<void>(), 1);
        elements = copy_.as<const char>();
    }
    kernels_.digits(x_.dtype, elements, count, digits_.as<int16_t>());
    return {elements, digits_.as<int16_t>()};
}

Kth TopkRow::kth(int64_t k) {
    if (!kept_) return kth_by_histogram(k);
    const Chunk all = chunk(0, n_);
    return find_kth(kernels_, x_.dtype, all.elements, all.digits, n_, k, scratch_);
}

Kth TopkRow::kth_by_histogram(int64_t k) {
    DigitHistogram histogram;
    for (int64_t i = 0; i < n_; ++i) histogram.add(high_digit(key(i)));
    const DigitPlace high = histogram.find(k);
    if (x_.dtype != core::DType::F32) return {high.digit * 65536, high.above, high.ties};
    histogram.clear();
    for (int64_t i = 0; i < n_; ++i) {
        if (high_digit(key(i)) == high.digit) histogram.add(low_digit(key(i)));
    }
    const DigitPlace low = histogram.find(k - high.above);
    return {join_digits(high.digit, low.digit), high.above + low.above, low.ties};
}

// The position after the `number`-th element with the key `tied`.
int64_t TopkRow::after_tie(int32_t tied, int64_t number) {
    int64_t i = 0;
    for (;; i += kTopkChunk) {
        const int64_t count = std::min(n_ - i, kTopkChunk);
        const Chunk part = chunk(i, count);
        const int64_t ties =
            count_ties(kernels_, x_.dtype, part.elements, part.digits, count, tied, scratch_.low_digits);
        if (ties >= number) break;
        number -= ties;
    }
    while (number > 0) number -= key(i++) == tied;
    return i;
}

void TopkRow::write(const Kth& kth, int64_t k, void* values, int64_t value_stride, int64_t* indices,
                    int64_t index_stride) {
    const int64_t tied = k - kth.above;
    const int64_t cut = kth.ties > tied ? after_tie(kth.key, tied) : n_;
    const int32_t next = x_.dtype == core::DType::F32 ? 1 : 65536;
    values_.reserve((kTopkChunk + kTopkPadding) * item_);
    positions_.reserve((kTopkChunk + kTopkPadding) * 2);
    auto* out = static_cast<char*>(values);
    for (int64_t begin = 0, written = 0; written < k;) {
        const bool with_ties = begin < cut;  // past the last tie that is taken only larger keys are
        const int64_t count = std::min((with_ties ? cut : n_) - begin, kTopkChunk);
        const Chunk part = chunk(begin, count);
        auto* positions = positions_.as<uint16_t>();
        const int64_t found = kernels_.collect(x_.dtype, part.elements, part.digits, count,
                                               with_ties ? kth.key : kth.key + next, values_.as<void>(), positions);
        copy_elements(x_.dtype, values_.as<void>(), 1, found, out + written * value_stride * item_, value_stride);
        if (index_stride == 1) {
            kernels_.widen(positions, found, begin, indices + written);
        } else {
            for (int64_t i = 0; i < found; ++i) indices[(written + i) * index_stride] = begin + positions[i];
        }
        written += found;
        begin += count;
    }
}

}  // namespace sparsecore::cpu
