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

TopkRow::TopkRow(const core::Span& x, int64_t k, const TopkKernels& kernels)
    : x_(x), kernels_(kernels), k_(k), item_(core::itemsize(x.dtype)) {
    values_.reserve((kTopkChunk + kTopkPadding) * item_);
    positions_.reserve((kTopkChunk + kTopkPadding) * 2);
}

void TopkRow::select(int64_t row) {
    const int64_t n = x_.shape[1], stride = x_.strides[1];
    elements_ = {x_.as<const char>() + row * x_.strides[0] * item_, n, stride, nullptr, false};
    const bool few = n >= kSampledRow && k_ <= n / 64;
    if ((few && find_candidates()) || n > kKeptRow) return;
    if (stride != 1) {
        copy_.reserve(n * item_);
        copy_elements(x_.dtype, elements_.data, stride, n, copy_.as<void>(), 1);
        elements_.data = copy_.as<const char>();
    }
    keep(elements_.data, n, nullptr);
}

// Goes on with these elements alone.
void TopkRow::keep(const char* data, int64_t n, const int64_t* indices) {
    digits_.reserve((n + kTopkPadding) * 2);
    kernels_.digits(x_.dtype, data, n, digits_.as<int16_t>());
    elements_ = {data, n, 1, indices, true};
}

// False, and nothing changed, if the sample misled: fewer than k lie above its bound, or far more.
bool TopkRow::find_candidates() {
    const int64_t n = elements_.n, step = n / kSample, most = n / 16;
    int16_t sample[kSample];
    copy_elements(x_.dtype, elements_.data, step * elements_.stride, kSample, values_.as<void>(), 1);
    kernels_.digits(x_.dtype, values_.as<void>(), kSample, sample);
    const int64_t rank = sample_ranks(n, k_).smaller;
    const int32_t bound = find_digit(kernels_, sample, kSample, rank, scratch_.narrowed).digit * 65536;
    candidates_.reserve(most * item_);
    candidate_indices_.reserve(most * 8);
    int64_t found = 0;
    for (int64_t begin = 0; begin < n; begin += kTopkChunk) {
        const int64_t more = collect(begin, std::min(n - begin, kTopkChunk), bound);
        if (found + more > most) return false;
        std::memcpy(candidates_.as<char>() + found * item_, values_.as<void>(), static_cast<size_t>(more * item_));
        kernels_.widen(positions_.as<uint16_t>(), more, begin, candidate_indices_.as<int64_t>() + found);
        found += more;
    }
    if (found < k_) return false;
    keep(candidates_.as<const char>(), found, candidate_indices_.as<int64_t>());
    return true;
}

TopkRow::Chunk TopkRow::chunk(int64_t begin, int64_t count) {
    const char* elements = elements_.data + begin * elements_.stride * item_;
    if (elements_.kept) return {elements, digits_.as<int16_t>() + begin};
    if (elements_.stride != 1) {
        copy_.reserve(kTopkChunk * item_);
        copy_elements(x_.dtype, elements, elements_.stride, count, copy_.as<void>(), 1);
        elements = copy_.as<const char>();
    }
    digits_.reserve((kTopkChunk + kTopkPadding) * 2);
    kernels_.digits(x_.dtype, elements, count, digits_.as<int16_t>());
    return {elements, digits_.as<int16_t>()};
}

// Elements of a chunk with a key of at least `least`, into values_ and positions_; returns how many there are.
int64_t TopkRow::collect(int64_t begin, int64_t count, int32_t least) {
    const Chunk part = chunk(begin, count);
    return kernels_.collect(x_.dtype, part.elements, part.digits, count, least, values_.as<void>(),
                            positions_.as<uint16_t>());
}

Kth TopkRow::kth() {
    if (!elements_.kept) return kth_by_histogram();
    const Chunk all = chunk(0, elements_.n);
    return find_kth(kernels_, x_.dtype, all.elements, all.digits, elements_.n, k_, scratch_);
}

Kth TopkRow::kth_by_histogram() {
    DigitHistogram histogram;
    for (int64_t i = 0; i < elements_.n; ++i) histogram.add(high_digit(key(i)));
    const DigitPlace high = histogram.find(k_);
    if (x_.dtype != core::DType::F32) return {high.digit * 65536, high.above, high.ties};
    histogram.clear();
    for (int64_t i = 0; i < elements_.n; ++i) {
        if (high_digit(key(i)) == high.digit) histogram.add(low_digit(key(i)));
    }
    const DigitPlace low = histogram.find(k_ - high.above);
    return {join_digits(high.digit, low.digit), high.above + low.above, low.ties};
}

// The position after the `number`-th element with the key `tied`.
int64_t TopkRow::after_tie(int32_t tied, int64_t number) {
    int64_t i = 0;
    for (;; i += kTopkChunk) {
        const int64_t count = std::min(elements_.n - i, kTopkChunk);
        const Chunk part = chunk(i, count);
        const int64_t ties =
            count_ties(kernels_, x_.dtype, part.elements, part.digits, count, tied, scratch_.low_digits);
        if (ties >= number) break;
        number -= ties;
    }
    while (number > 0) number -= key(i++) == tied;
    return i;
}

void TopkRow::write(const Kth& kth, void* values, int64_t value_stride, int64_t* indices, int64_t index_stride) {
    const int64_t tied = k_ - kth.above;
    const int64_t cut = kth.ties > tied ? after_tie(kth.key, tied) : elements_.n;
    const int32_t next = x_.dtype == core::DType::F32 ? 1 : 65536;
    const auto* positions = positions_.as<const uint16_t>();
    auto* out = static_cast<char*>(values);
    for (int64_t begin = 0, written = 0; written < k_;) {
        const bool with_ties = begin < cut;  // past the last tie that is taken only larger keys are
        const int64_t count = std::min((with_ties ? cut : elements_.n) - begin, kTopkChunk);
        const int64_t found = collect(begin, count, with_ties ? kth.key : kth.key + next);
        copy_elements(x_.dtype, values_.as<void>(), 1, found, out + written * value_stride * item_, value_stride);
        int64_t* places = indices + written * index_stride;
        if (elements_.indices == nullptr && index_stride == 1) {
            kernels_.widen(positions, found, begin, places);
        } else {
            for (int64_t i = 0; i < found; ++i) {
                const int64_t place = begin + positions[i];
                places[i * index_stride] = elements_.indices == nullptr ? place : elements_.indices[place];
            }
        }
        written += found;
        begin += count;
    }
}

}  // namespace sparsecore::cpu
