#include "cpu/attention/decode/decode.h"

#include <algorithm>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "cpu/attention/decode/check.h"
#include "cpu/attention/decode/item.h"

namespace sparsecore::cpu {

namespace {

using core::Span;

DecodeKernels kernels_for(const DecodeProblem& p) {
    [[maybe_unused]] const auto isa = static_cast<uint32_t>(core::runtime_isa());
    if (p.planes != 0 && p.width > kDecodeMaxPlaneWidth) return decode_portable();
    DecodeKernels table = decode_portable();
#if defined(SPARSECORE_HAVE_AVX2)
    if (isa >= static_cast<uint32_t>(core::Isa::Avx2)) table = decode_avx2();
#endif
#if defined(SPARSECORE_HAVE_AVX512)
    if (isa >= static_cast<uint32_t>(core::Isa::Avx512)) table = decode_avx512();
#endif
#if defined(SPARSECORE_HAVE_AVX512BF16)
    if (isa >= static_cast<uint32_t>(core::Isa::Avx512) && core::cpu_has("avx512bf16")) {
        decode_use_avx512_bf16(table, p);
    }
#endif
#if defined(SPARSECORE_HAVE_AMX)
    if (isa >= static_cast<uint32_t>(core::Isa::Amx)) decode_use_amx(table);
#endif
    return table;
}

int64_t element(const Span& span, int64_t i) { return span.as<const int64_t>()[i * span.strides[0]]; }

// The rows that every sequence sees, checked.
class SeenRows {
public:
    SeenRows(const DecodeProblem& p, const DecodeSeen& seen, int threads) : rows_(static_cast<size_t>(p.batch)) {
        for (int64_t b = 0; b < p.batch; ++b) {
            DecodeRows& own = rows_[static_cast<size_t>(b)];
            own = {element(*seen.starts, b), element(*seen.lengths, b), nullptr};
            if (own.first < 0 || own.count < 0 || own.first > seen.width || own.count > seen.width - own.first) {
                fail("slots outside of the store", "starts, lengths", "within 0 ... " + std::to_string(seen.width));
            }
        }
        if (seen.rows == nullptr) return;
        stride_ = p.most_rows + kDecodeAhead;
        lists_.reserve(core::checked_mul(core::checked_mul(p.batch, stride_, "rows"), 4, "rows"));
        core::parallel_for(0, p.batch, 1, threads, [&](int64_t begin, int64_t end) {
            for (int64_t b = begin; b < end; ++b) select(b, *seen.rows, seen.row_counts);
        });
    }

    const DecodeRows& of(int64_t batch) const { return rows_[static_cast<size_t>(batch)]; }

private:
    [[noreturn]] static void fail(const char* what, const char* where, const std::string& expected) {
        throw core::Error("IndexTableError", what, where, expected);
    }

    void select(int64_t batch, const Span& rows, const Span* counts) {
        DecodeRows& own = rows_[static_cast<size_t>(batch)];
        const int64_t count = counts == nullptr ? rows.shape[1] : element(*counts, batch);
        if (count < 0 || count > rows.shape[1]) {
            fail("more rows than were given", "row_counts", "0 to " + std::to_string(rows.shape[1]));
        }
        int32_t* list = lists_.as<int32_t>() + batch * stride_;
        const int64_t* from = rows.as<const int64_t>() + batch * rows.strides[0];
        int64_t last = own.first - 1;
        bool ordered = true;
        for (int64_t i = 0; i < count; ++i) {
            const int64_t row = from[i * rows.strides[1]];
            ordered = ordered && row > last;
            last = row;
            list[i] = static_cast<int32_t>(row);
        }
        if (!ordered || last >= own.first + own.count) {
            fail("selected rows are not ascending slots of their sequence", "rows",
                 "start <= row < start + length, each larger than the one before");
        }
        for (int64_t i = 0; i < kDecodeAhead; ++i) list[count + i] = count > 0 ? list[count - 1] : 0;
        own = {0, count, list};
    }

    std::vector<DecodeRows> rows_;
    core::AlignedBuffer lists_;
    int64_t stride_ = 0;
};

// Threads share the rows of every item where there are too few items to give each thread as many.
bool splits(const DecodeProblem& p, const SeenRows& seen, int threads) {
    const int64_t items = p.batch * p.kv_heads;
    if (threads == 1 || items >= 4 * int64_t{threads} || items % threads == 0) return false;
    int64_t most = 0;
    for (int64_t b = 0; b < p.batch; ++b) most = std::max(most, seen.of(b).count);
    return most >= 2 * kDecodeChunk;
}

// Runs body(item, i) for every i below limit(item) of every item.
template <class Limit, class Body>
void over(std::vector<DecodeItem>& items, int threads, Limit&& limit, Body&& body) {
    std::vector<int64_t> first{0};
    for (DecodeItem& item : items) first.push_back(first.back() + limit(item));
    core::parallel_for(0, first.back(), 1, threads, [&](int64_t begin, int64_t end) {
        size_t item = 0;
        for (int64_t i = begin; i < end; ++i) {
            while (i >= first[item + 1]) ++item;
            body(items[item], i - first[item]);
        }
    });
}

void run_split(const DecodeProblem& p, const DecodeKernels& kernels, const SeenRows& seen, int threads) {
    std::vector<core::AlignedBuffer> memory(static_cast<size_t>(p.batch * p.kv_heads));
    std::vector<DecodeItem> items;
    for (int64_t i = 0; i < p.batch * p.kv_heads; ++i) {
        const int64_t batch = i / p.kv_heads;
        items.emplace_back(p, kernels, batch, i % p.kv_heads, seen.of(batch), memory[static_cast<size_t>(i)]);
    }
    const auto chunks = [](const DecodeItem& item) { return item.queries() > 0 ? item.chunks() : 0; };
    const auto queries = [](const DecodeItem& item) { return item.queries(); };
    const auto products = [&](bool low) {
        over(items, threads, chunks, [&](DecodeItem& item, int64_t chunk) {
            const int64_t begin = chunk * kDecodeChunk;
            item.products(begin, std::min(begin + kDecodeChunk, item.rows()), low);
        });
    };
    products(false);
    over(items, threads, queries, [](DecodeItem& item, int64_t query) { item.settle(query); });
    if (std::any_of(items.begin(), items.end(), [](const DecodeItem& item) { return item.needs_low(); })) {
        products(true);
        over(items, threads, queries, [](DecodeItem& item, int64_t query) { item.settle_low(query); });
    }
    if (p.group_values) {
        over(items, threads, [](const DecodeItem&) { return int64_t{1}; }, [](DecodeItem& item, int64_t) {
            for (int64_t i = 0; i < item.queries(); ++i) item.choose(i);
        });
    } else {
        over(items, threads, queries, [](DecodeItem& item, int64_t query) { item.choose(query); });
    }
    over(items, threads, chunks, [](DecodeItem& item, int64_t chunk) { item.multiply(chunk); });
    for (DecodeItem& item : items) item.finish();
}

}  // namespace

void decode_attention(const Span& q, const DecodeStore& store, const DecodeSeen& seen, const DecodeRule& rule,
                      const DecodeOutputs& outputs, int threads) {
    if (threads < 1) {
        throw core::Error("InvalidValueError", "threads is " + std::to_string(threads), "threads", "at least 1");
    }
    if (seen.starts == nullptr || seen.lengths == nullptr || outputs.out == nullptr || outputs.lse == nullptr ||
        outputs.low == nullptr || outputs.values_used == nullptr) {
        throw core::Error("SpanError", "a tensor that is always needed is missing", "decode_attention");
    }
    const DecodeProblem p = decode_problem(q, store, seen, rule, outputs);
    const SeenRows rows(p, seen, threads);
    const DecodeKernels kernels = kernels_for(p);
    if (splits(p, rows, threads)) return run_split(p, kernels, rows, threads);
    core::parallel_for(0, p.batch * p.kv_heads, 1, threads, [&](int64_t begin, int64_t end) {
        thread_local core::AlignedBuffer memory;
        for (int64_t i = begin; i < end; ++i) {
            const int64_t batch = i / p.kv_heads;
            DecodeItem(p, kernels, batch, i % p.kv_heads, rows.of(batch), memory).run();
        }
    });
}

}  // namespace sparsecore::cpu
