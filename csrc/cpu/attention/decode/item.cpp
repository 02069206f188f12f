#include "cpu/attention/decode/item.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/checked.h"
#include "cpu/topk/search.h"

namespace sparsecore::cpu {

namespace {

constexpr float kLog2E = 1.44269504088896341f;
constexpr double kLn2 = 0.693147180559945309;
constexpr float kScoreUnit = 1048576.0f;  // 2^20
// 0.3 * 10 is a little below 3 in binary and shall be 3.
constexpr double kRounding = 1e-9;

// Hands out pieces of one block of memory, each on a cache line of its own.
class Arena {
public:
    explicit Arena(void* memory) : next_(static_cast<uint8_t*>(memory)) {}
    template <class T>
    T* take(int64_t count) {
        T* piece = reinterpret_cast<T*>(next_);
        next_ += bytes(count, sizeof(T));
        return piece;
    }
    static int64_t bytes(int64_t count, size_t size) {
        return core::round_up(core::checked_mul(count, static_cast<int64_t>(size), "scratch"), core::kAlignment, "scratch");
    }

private:
    uint8_t* next_;
};

void quantise(int64_t width, DecodeQuery& query) {
    constexpr int32_t kLimit = (1 << (kDecodeQueryBits - 1)) - 1;
    float largest = 0.0f;
    bool finite = true;
    for (int64_t d = 0; d < width; ++d) {
        largest = std::max(largest, std::fabs(query.values[d]));
        finite = finite && std::isfinite(query.values[d]);
    }
    query.sum = 0;
    query.scale = largest == 0.0f ? 1.0f : largest / static_cast<float>(kLimit);
    if (query.scale == 0.0f) query.scale = 1.0f;  // the quotient of a subnormal may be 0
    if (!finite) query.scale = std::numeric_limits<float>::quiet_NaN();
    // Adding and removing 1.5 * 2^23 rounds to an integer, half to even.
    constexpr float kRound = 12582912.0f;
    for (int64_t d = 0; d < width; ++d) {
        const float integer = finite ? (query.values[d] / query.scale + kRound) - kRound : 0.0f;
        query.integers[d] = static_cast<int16_t>(std::min(std::max(static_cast<int32_t>(integer), -kLimit), kLimit));
        query.sum += query.integers[d];
    }
}

}  // namespace

DecodeItem::DecodeItem(const DecodeProblem& problem, const DecodeKernels& kernels, int64_t batch, int64_t kv_head,
                       const DecodeRows& rows, core::AlignedBuffer& memory)
    : p_(problem), kernels_(kernels), batch_(batch), kv_head_(kv_head), rows_(rows) {
    lay_out(memory);
    for (int64_t g = 0; g < p_.group; ++g) {
        const int64_t head = kv_head_ * p_.group + g;
        const auto* kept = static_cast<const uint8_t*>(p_.heads_kept.data);
        if (rows_.count == 0 || (kept != nullptr && kept[p_.heads_kept.at(batch_, head)] == 0)) continue;
        query_[queries_].head = head;
        load_query(query_[queries_++]);
    }
}

void DecodeItem::lay_out(core::AlignedBuffer& memory) {
    const bool prunes = p_.value_keep < 1.0;
    const int64_t width = decode_padded(p_.width), rows = decode_padded(rows_.count) + kDecodeAhead;
    const int64_t sums = core::checked_mul(chunks() * p_.group, decode_padded(p_.value_width), "sums");
    const int64_t of_rows = Arena::bytes(rows, 4);
    const int64_t of_query = Arena::bytes(width, 4) + Arena::bytes(width, 2) + Arena::bytes(width, 8) +
                             of_rows * ((p_.planes != 0 ? 2 : 1) + (prunes ? 2 : 0));
    const int64_t of_queries = core::checked_mul(of_query + static_cast<int64_t>(sizeof(Query)) + core::kAlignment,
                                                 p_.group, "queries");
    const int64_t total = core::checked_add(of_queries, of_rows + Arena::bytes(sums, 4) + core::kAlignment, "scratch");
    Arena arena(memory.reserve(total));
    query_ = arena.take<Query>(p_.group);
    for (int64_t g = 0; g < p_.group; ++g) {
        Query& query = *new (query_ + g) Query();
        query.own.values = arena.take<float>(width);
        query.own.integers = arena.take<int16_t>(width);
        query.own.layout = arena.take<uint8_t>(width * 8);
        query.products = arena.take<float>(rows);
        query.p = p_.planes != 0 ? arena.take<float>(rows) : query.products;
        if (!prunes) continue;
        query.chosen = arena.take<float>(rows);
        query.list = arena.take<int32_t>(rows);
    }
    group_p_ = arena.take<float>(rows);
    sums_ = arena.take<float>(sums);
}

void DecodeItem::load_query(Query& query) {
    const int64_t padded = decode_padded(p_.width);
    std::fill_n(query.own.values, padded, 0.0f);
    std::fill_n(query.own.integers, padded, int16_t{0});
    for (int64_t d = 0; d < p_.width; ++d) {
        query.own.values[d] = core::load_float(p_.q.data, p_.q.at(batch_, query.head, d), p_.type);
    }
    if (p_.planes != 0) quantise(p_.width, query.own);
    kernels_.prepare(p_, query.own);
}

bool DecodeItem::needs_low() const {
    return std::any_of(query_, query_ + queries_, [](const Query& query) { return query.low; });
}

void DecodeItem::products(int64_t begin, int64_t end, bool low) {
    constexpr int64_t kAtOnce = 16;
    DecodeQuery own[kAtOnce];
    float* products[kAtOnce];
    const DecodeRows part = rows_.part(begin, end);
    for (int64_t next = 0; next < queries_;) {
        int64_t count = 0;
        for (; next < queries_ && count < kAtOnce; ++next) {
            if (low && !query_[next].low) continue;
            own[count] = query_[next].own;
            products[count++] = query_[next].products + begin;
        }
        if (count == 0) return;
        if (p_.planes == 0) {
            kernels_.dense_products(p_, p_.keys.head(batch_, kv_head_), part, own, count, products);
            continue;
        }
        for (int i = low ? p_.planes - 1 : 0; i < (low ? p_.planes : p_.planes - 1); ++i) {
            const DecodePlane& plane = p_.plane[i];
            kernels_.plane_products(p_, plane, plane.part.head(batch_, kv_head_), part, own, count, products);
        }
    }
}

DecodeScoring DecodeItem::scoring(const Query& query, bool low) const {
    DecodeScoring scoring;
    if (p_.planes == 0) {
        scoring.factor = p_.scale * kLog2E;
        return scoring;
    }
    // Without the low plane: its 4 bits are worth 8, the middle.
    if (!low) {
        scoring.weight = 16.0f;
        scoring.addend = 8.0f * static_cast<float>(query.own.sum);
    }
    scoring.factor = query.own.scale * p_.scale * kLog2E;
    scoring.scales = p_.key_scales.head(batch_, kv_head_);
    scoring.scale_stride = p_.key_scales.row_stride;
    return scoring;
}

void DecodeItem::settle(int64_t i) {
    Query& query = query_[i];
    query.sums = kernels_.softmax(scoring(query, false), rows_, query.products, query.p);
    query.low = p_.planes != 0 && query.inverse() < p_.threshold;
}

void DecodeItem::settle_low(int64_t i) {
    Query& query = query_[i];
    if (query.low) query.sums = kernels_.softmax(scoring(query, true), rows_, query.products, query.p);
}

int64_t DecodeItem::value_count() const {
    const double share = std::floor(static_cast<double>(rows_.count) * p_.value_keep + kRounding);
    return std::min(rows_.count, std::max<int64_t>(1, static_cast<int64_t>(share)));
}

void DecodeItem::collect(const float* p, int64_t count, int32_t* places, float* values) {
    thread_local core::AlignedBuffer digits;
    thread_local SearchScratch scratch;
    const TopkKernels search = topk_kernels();
    digits.reserve((rows_.count + kTopkPadding) * 2);
    search.digits(core::DType::F32, p, rows_.count, digits.as<int16_t>());
    const Kth kth = find_kth(search, core::DType::F32, p, digits.as<int16_t>(), rows_.count, count, scratch);
    kernels_.collect(p, rows_.count, static_cast<uint32_t>(kth.key), count - kth.above, places, values);
}

void DecodeItem::to_slots(int32_t* places, int64_t count) const {
    if (rows_.list != nullptr) {
        for (int64_t i = 0; i < count; ++i) places[i] = rows_.list[places[i]];
    } else if (rows_.first != 0) {
        for (int64_t i = 0; i < count; ++i) places[i] += static_cast<int32_t>(rows_.first);
    }
    for (int64_t i = 0; i < kDecodeAhead; ++i) places[count + i] = places[count - 1];
}

void DecodeItem::choose(int64_t i) {
    Query& query = query_[i];
    if (p_.token_scores.data != nullptr) write_token_scores(query);
    if (p_.value_keep >= 1.0 || value_count() == rows_.count) {
        query.list = nullptr;
    } else if (!p_.group_values) {
        choose_own(query);
    } else if (i == queries_ - 1) {
        choose_for_group();
    }
}

void DecodeItem::choose_own(Query& query) {
    query.listed = value_count();
    if (std::isnan(query.sums.sum)) {  // all probabilities are NaN: equal
        for (int64_t i = 0; i < query.listed; ++i) query.list[i] = static_cast<int32_t>(i), query.chosen[i] = query.p[i];
    } else {
        collect(query.p, query.listed, query.list, query.chosen);
    }
    float mass = 0.0f;
    for (int64_t i = 0; p_.value_mass > 0.0f && i < query.listed; ++i) mass += query.chosen[i];
    if (p_.value_mass > 0.0f && mass * query.inverse() < p_.value_mass) {
        query.list = nullptr;
    } else {
        to_slots(query.list, query.listed);
    }
}

void DecodeItem::choose_for_group() {
    Query& last = query_[queries_ - 1];
    const int64_t count = value_count();
    std::fill_n(group_p_, rows_.count, 0.0f);
    bool valid = true;
    for (int64_t g = 0; g < queries_; ++g) {
        const float inverse = query_[g].inverse();
        valid = valid && !std::isnan(inverse);
        for (int64_t i = 0; i < rows_.count; ++i) group_p_[i] += query_[g].p[i] * inverse;
    }
    if (valid) {
        collect(group_p_, count, last.list, last.chosen);
    } else {
        for (int64_t i = 0; i < count; ++i) last.list[i] = static_cast<int32_t>(i);
    }
    bool enough = true;
    for (int64_t g = 0; g < queries_; ++g) {
        float mass = 0.0f;
        for (int64_t i = 0; i < count; ++i) mass += query_[g].chosen[i] = query_[g].p[last.list[i]];
        enough = enough && !(mass * query_[g].inverse() < p_.value_mass);
        query_[g].listed = count;
    }
    if (enough) to_slots(last.list, count);
    for (int64_t g = 0; g < queries_; ++g) query_[g].list = enough ? last.list : nullptr;
}

void DecodeItem::multiply(int64_t chunk) {
    const int64_t padded = decode_padded(p_.value_width), begin = chunk * kDecodeChunk;
    const int64_t end = std::min(begin + kDecodeChunk, rows_.count);
    float* sums = sums_ + chunk * queries_ * padded;
    for (int64_t next = 0; next < queries_;) {
        constexpr int64_t kAtOnce = 16;
        const float* weights[kAtOnce];
        const Query& first = query_[next];
        DecodeRows part = rows_.part(begin, end);
        int64_t offset = begin;
        if (first.list != nullptr) {
            const int32_t *list = first.list, *past = list + first.listed;
            const int32_t* from = std::lower_bound(list, past, static_cast<int32_t>(rows_.slot(begin)));
            const int32_t* to =
                end == rows_.count ? past : std::lower_bound(from, past, static_cast<int32_t>(rows_.slot(end)));
            part = {0, to - from, from};
            offset = from - list;
        }
        int64_t count = 0;
        while (next + count < queries_ && count < kAtOnce && query_[next + count].list == first.list) {
            const Query& query = query_[next + count];
            weights[count++] = (query.list == nullptr ? query.p : query.chosen) + offset;
        }
        kernels_.values(p_, batch_, kv_head_, part, weights, count, sums + next * padded);
        next += count;
    }
}

void DecodeItem::write_token_scores(const Query& query) const {
    auto* out = static_cast<int64_t*>(p_.token_scores.data) + p_.token_scores.at(batch_, query.head);
    const int64_t first = rows_.list == nullptr ? rows_.first : 0;
    std::fill_n(out, first, int64_t{0});
    kernels_.token_scores(query.p, rows_.count, query.inverse() * kScoreUnit, out + first);
    std::fill(out + first + rows_.count, out + p_.most_rows, int64_t{0});
}

void DecodeItem::finish() {
    const int64_t padded = decode_padded(p_.value_width);
    for (int64_t g = 0, i = 0; g < p_.group; ++g) {
        const int64_t head = kv_head_ * p_.group + g;
        const Query* query = i < queries_ && query_[i].head == head ? query_ + i : nullptr;
        if (query == nullptr && p_.token_scores.data != nullptr) {
            auto* scores = static_cast<int64_t*>(p_.token_scores.data) + p_.token_scores.at(batch_, head);
            std::fill_n(scores, p_.most_rows, int64_t{0});
        }
        float* sums = sums_ + i * padded;
        for (int64_t chunk = 1; query != nullptr && chunk < chunks(); ++chunk) {
            const float* more = sums_ + (chunk * queries_ + i) * padded;
            for (int64_t d = 0; d < p_.value_width; ++d) sums[d] += more[d];
        }
        write(query, head, sums);
        i += query != nullptr;
    }
}

void DecodeItem::write(const Query* query, int64_t head, const float* sums) const {
    const float inverse = query == nullptr ? 0.0f : query->inverse();
    for (int64_t d = 0; d < p_.value_width; ++d) {
        const float sum = query == nullptr ? 0.0f : sums[d] * inverse;
        core::store_float(p_.out.data, p_.out.at(batch_, head, d), p_.type, sum);
    }
    if (p_.head_scores.data != nullptr) {
        static_cast<int64_t*>(p_.head_scores.data)[p_.head_scores.at(batch_, head)] = head_score(head);
    }
    const double lse = query == nullptr ? -std::numeric_limits<double>::infinity()
                                        : kLn2 * (static_cast<double>(query->sums.largest) + std::log2(query->sums.sum));
    static_cast<float*>(p_.lse.data)[p_.lse.at(batch_, head)] = static_cast<float>(lse);
    static_cast<uint8_t*>(p_.low.data)[p_.low.at(batch_, head)] = query != nullptr && query->low;
    const int64_t used = query == nullptr ? 0 : query->list == nullptr ? rows_.count : query->listed;
    static_cast<int32_t*>(p_.values_used.data)[p_.values_used.at(batch_, head)] = static_cast<int32_t>(used);
}

int64_t DecodeItem::head_score(int64_t head) const {
    int64_t score = 0;
    for (int64_t d = 0; d < p_.value_width; ++d) {
        const double out = core::load_float(p_.out.data, p_.out.at(batch_, head, d), p_.type);
        const double size = std::fabs(out) * kScoreUnit;
        if (size == size) score += static_cast<int64_t>(std::nearbyint(std::min(size, 2147483647.0)));
    }
    return score;
}

void DecodeItem::run() {
    if (queries_ > 0) {
        products(0, rows_.count, false);
        for (int64_t i = 0; i < queries_; ++i) settle(i);
        if (needs_low()) {
            products(0, rows_.count, true);
            for (int64_t i = 0; i < queries_; ++i) settle_low(i);
        }
        for (int64_t i = 0; i < queries_; ++i) choose(i);
        for (int64_t chunk = 0; chunk < chunks(); ++chunk) multiply(chunk);
    }
    finish();
}

}  // namespace sparsecore::cpu
