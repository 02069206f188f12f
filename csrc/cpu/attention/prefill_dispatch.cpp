#include <algorithm>
#include <atomic>
#include <string>

#include "core/buffer.h"
#include "core/checked.h"
#include "core/error.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "cpu/attention/prefill.h"
#include "cpu/attention/prefill_check.h"
#include "cpu/attention/prefill_kernels.h"

namespace sparsecore::cpu {

namespace {

using core::Span;

void require_close_columns(const Span& span, const char* name) {
    const int last = span.ndim - 1;
    if (span.shape[last] > 1 && span.strides[last] != 1) {
        throw core::Error("ShapeError", "elements of a row are " + std::to_string(span.strides[last]) + " apart", name,
                          "1");
    }
}

void check_inputs(const ScoredInputs& in, int threads) {
    check_scored_inputs(in);
    for (const auto& [span, name] : {std::pair{&in.q, "q"}, {&in.k, "k"}, {&in.v, "v"}}) require_close_columns(*span, name);
    if (in.mask != nullptr) require_close_columns(*in.mask, "mask");
    if (threads < 1) {
        throw core::Error("InvalidValueError", "threads is " + std::to_string(threads), "threads", "at least 1");
    }
}

void check_outputs(const ScoredInputs& in, const ScoredOutputs& out) {
    core::require_shape(out.values_used, "values_used", {in.q.shape[0], in.q.shape[1]});
    core::require_dtype(out.values_used, "values_used", core::DType::I32);
    check_scored_results(in, {out.out, out.lse, out.token_scores, out.head_scores, &out.values_used});
    require_close_columns(out.out, "out");
}

PrefillTensor tensor(const Span& s) {
    return {s.data, s.strides[0], s.strides[1], s.ndim > 2 ? s.strides[2] : 0};
}

PrefillProblem problem_of(const ScoredInputs& in, const ScoredOutputs& out) {
    PrefillProblem p;
    p.dtype = in.q.dtype;
    p.batch = in.q.shape[0], p.heads = in.q.shape[1], p.key_heads = in.k.shape[1];
    p.queries = in.q.shape[2], p.keys = in.k.shape[2];
    p.width = in.q.shape[3], p.value_width = in.v.shape[3];
    p.q = tensor(in.q), p.k = tensor(in.k), p.v = tensor(in.v);
    p.out = tensor(out.out), p.lse = tensor(out.lse);
    if (in.mask != nullptr && p.keys > 0) p.mask = tensor(*in.mask);
    if (in.counted != nullptr) p.counted = {in.counted->data, in.counted->strides[0], 0, in.counted->strides[1]};
    p.causal = in.causal;
    p.token_scores = out.token_scores != nullptr, p.head_scores = out.head_scores != nullptr;
    p.scale = in.scale, p.value_keep = in.value_keep;
    return p;
}

PrefillKernels kernels([[maybe_unused]] const PrefillProblem& p) {
    [[maybe_unused]] const auto isa = static_cast<uint32_t>(core::runtime_isa());
#if defined(SPARSECORE_HAVE_AMX)
    if (isa >= static_cast<uint32_t>(core::Isa::Amx) && p.dtype == core::DType::BF16) return prefill_amx();
#endif
#if defined(SPARSECORE_HAVE_AVX512BF16)
    if (isa >= static_cast<uint32_t>(core::Isa::Avx512) && p.dtype == core::DType::BF16 && core::cpu_has("avx512bf16")) {
        return prefill_avx512_bf16();
    }
#endif
#if defined(SPARSECORE_HAVE_AVX512)
    if (isa >= static_cast<uint32_t>(core::Isa::Avx512)) return prefill_avx512();
#endif
#if defined(SPARSECORE_HAVE_AVX2)
    if (isa >= static_cast<uint32_t>(core::Isa::Avx2)) return prefill_avx2();
#endif
    return prefill_portable();
}

// Memory is kept for the next call of a thread unless it is large.
class Kept {
public:
    explicit Kept(core::AlignedBuffer& buffer, int64_t bytes) : buffer_(buffer) { buffer_.reserve(bytes); }
    Kept(const Kept&) = delete;
    Kept& operator=(const Kept&) = delete;
    ~Kept() {
        if (buffer_.bytes() > kKeptBytes) buffer_ = core::AlignedBuffer();
    }
    uint8_t* data() const { return buffer_.as<uint8_t>(); }

private:
    static constexpr int64_t kKeptBytes = 4 << 20;
    core::AlignedBuffer& buffer_;
};

// One call: the problem, its kernel, and where the scores go. Heads count over batch and head.
class Call {
public:
    Call(const PrefillProblem& p, const ScoredOutputs& outputs, int threads)
        : p_(p), outputs_(outputs), kernels_(kernels(p)), threads_(threads),
          heads_(core::checked_mul(p.batch, p.heads, "heads")), tiles_((p.queries + kernels_.rows - 1) / kernels_.rows) {
        used_.reserve(core::checked_mul(heads_, blocks(p) * 8, "heads"));
        std::fill_n(used_.as<uint64_t>(), heads_ * blocks(p), uint64_t{0});
        for (int64_t head = 0; head < heads_; ++head) {
            if (p.head_scores) *element<int64_t>(*outputs_.head_scores, head) = 0;
            if (!p.token_scores) continue;
            auto* scores = element<int64_t>(*outputs_.token_scores, head);
            for (int64_t j = 0; j < p.keys; ++j) scores[j * outputs_.token_scores->strides[2]] = 0;
        }
    }

    void run() {
        const int64_t key_heads = p_.batch * p_.key_heads;
        const bool enough = key_heads % threads_ == 0 || key_heads >= 4 * threads_;
        if (enough && packed_bytes() * threads_ <= kPackedBytes) {
            run_whole_heads(key_heads);
        } else {
            run_parts_of_heads(key_heads);
        }
        for (int64_t head = 0; head < heads_; ++head) *element<int32_t>(outputs_.values_used, head) = count_used(head);
    }

private:
    // Packed keys and values of a call fit into this, except where those of a single head do not.
    static constexpr int64_t kPackedBytes = 24 << 20;

    int64_t panel_bytes(int64_t columns) const {
        return core::checked_mul(core::checked_mul(padded_keys(p_), columns, "keys"), kernels_.item, "keys");
    }
    int64_t packed_bytes() const { return panel_bytes(padded_width(p_)) + panel_bytes(panels(p_) * kPrefillBlock); }

    static core::AlignedBuffer& packed_memory() {
        thread_local core::AlignedBuffer memory;
        return memory;
    }

    PrefillKeys keys_in(const Kept& packed, int64_t place) const {
        if (kernels_.item == 0) return {};
        uint8_t* memory = packed.data() + place * packed_bytes();
        return {memory, memory + panel_bytes(padded_width(p_)), true};
    }

    // A thread packs a head and works on all its queries while the packed form is in its cache.
    void run_whole_heads(int64_t key_heads) {
        core::parallel_for(0, key_heads, 1, threads_, [&](int64_t begin, int64_t end) {
            const Kept packed(packed_memory(), packed_bytes());
            Worker worker(*this);
            PrefillKeys keys = keys_in(packed, 0);
            const int64_t group = p_.heads / p_.key_heads;
            for (int64_t kv = begin; kv < end; ++kv) {
                keys.finite = true;
                for (int64_t block = 0; kernels_.pack != nullptr && block < blocks(p_); ++block) {
                    keys.finite &= kernels_.pack(p_, keys, kv, block);
                }
                for (int64_t item = kv * group * tiles_; item < (kv + 1) * group * tiles_; ++item) worker.run(keys, item);
            }
        });
    }

    // All threads pack some heads, then work on their queries.
    void run_parts_of_heads(int64_t key_heads) {
        const int64_t fit = packed_bytes() > 0 ? std::max<int64_t>(1, kPackedBytes / packed_bytes()) : key_heads;
        const int64_t at_once = std::min(fit, key_heads), count = blocks(p_), group = p_.heads / p_.key_heads;
        const Kept packed(packed_memory(), core::checked_mul(packed_bytes(), at_once, "keys"));
        const core::AlignedBuffer odd(at_once);
        for (int64_t first = 0; first < key_heads; first += at_once) {
            const int64_t number = std::min(at_once, key_heads - first);
            auto* spoiled = odd.as<std::atomic<uint8_t>>();
            for (int64_t i = 0; i < number; ++i) spoiled[i].store(0, std::memory_order_relaxed);
            core::parallel_for(0, kernels_.pack == nullptr ? 0 : number * count, 1, threads_, [&](int64_t begin, int64_t end) {
                for (int64_t i = begin; i < end; ++i) {
                    const PrefillKeys keys = keys_in(packed, i / count);
                    if (!kernels_.pack(p_, keys, first + i / count, i % count)) {
                        spoiled[i / count].store(1, std::memory_order_relaxed);
                    }
                }
            });
            core::parallel_for(0, number * group * tiles_, 1, threads_, [&](int64_t begin, int64_t end) {
                Worker worker(*this);
                for (int64_t i = begin; i < end; ++i) {
                    const int64_t place = i / tiles_ / group;
                    PrefillKeys keys = keys_in(packed, place);
                    keys.finite = spoiled[place].load(std::memory_order_relaxed) == 0;
                    worker.run(keys, first * group * tiles_ + i);
                }
            });
        }
    }

    // The memory of one thread; adds the scores of a head to the outputs when it goes on to another one.
    class Worker {
    public:
        explicit Worker(Call& call) : call_(call), memory_(worker_memory(), lay_out(nullptr)) {
            lay_out(memory_.data());
            std::fill_n(scratch_.tokens, padded_keys(call.p_), 0);
            std::fill_n(scratch_.used, blocks(call.p_), uint64_t{0});
        }
        Worker(const Worker&) = delete;
        Worker& operator=(const Worker&) = delete;
        ~Worker() { finish(); }

        void run(const PrefillKeys& keys, int64_t item) {
            const int64_t head = item / call_.tiles_, rows = call_.kernels_.rows;
            if (head != head_ || counted_ + rows > kCountedRows) finish();
            head_ = head;
            counted_ += rows;
            call_.kernels_.run(call_.p_, keys, scratch_, head, call_.tile_of(item % call_.tiles_));
        }

    private:
        static core::AlignedBuffer& worker_memory() {
            thread_local core::AlignedBuffer memory;
            return memory;
        }

        // Points into `memory` and returns how many bytes of it are used.
        int64_t lay_out(uint8_t* memory) {
            const PrefillProblem& p = call_.p_;
            const int64_t rows = call_.kernels_.rows, stride = row_stride(p);
            int64_t bytes = 0;
            const auto place = [&](auto*& pointer, int64_t count, int64_t size) {
                pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(memory == nullptr ? nullptr : memory + bytes);
                const int64_t used = core::checked_mul(count, size, "scratch");
                bytes = core::checked_add(bytes, core::round_up(used, core::kAlignment, "scratch"), "scratch");
            };
            place(scratch_.queries, rows * padded_width(p), 4);
            place(scratch_.scores, rows * stride, 4);
            scratch_.weights = scratch_.scores;
            if (call_.kernels_.item != 4) place(scratch_.weights, rows * stride, 4);
            place(scratch_.sums, rows * panels(p), kPrefillBlock * 4);
            place(scratch_.seen, rows * blocks(p), 8);
            place(scratch_.active, blocks(p), 4);
            place(scratch_.tokens, padded_keys(p), 4);
            place(scratch_.used, blocks(p), 8);
            return bytes;
        }

        void finish() {
            if (head_ < 0) return;
            call_.add(head_, scratch_);
            counted_ = 0;
        }

        Call& call_;
        PrefillScratch scratch_;
        const Kept memory_;
        int64_t head_ = -1, counted_ = 0;
    };

    // Under a causal mask later queries see more: an early and a late tile take turns, so that equal shares of the tiles
    // are about equal work.
    int64_t tile_of(int64_t i) const { return i % 2 == 0 ? i / 2 : tiles_ - 1 - i / 2; }

    // Threads that share a head may add at the same time; sums of integers do not depend on who is first.
    void add(int64_t head, PrefillScratch& scratch) {
        if (p_.token_scores) {
            auto* scores = element<int64_t>(*outputs_.token_scores, head);
            const int64_t stride = outputs_.token_scores->strides[2];
            for (int64_t j = 0; j < p_.keys; ++j) {
                if (scratch.tokens[j] != 0) __atomic_fetch_add(scores + j * stride, scratch.tokens[j], __ATOMIC_RELAXED);
            }
        }
        if (p_.head_scores) {
            __atomic_fetch_add(element<int64_t>(*outputs_.head_scores, head), scratch.head_score, __ATOMIC_RELAXED);
        }
        for (int64_t block = 0; block < blocks(p_); ++block) {
            __atomic_fetch_or(used_.as<uint64_t>() + head * blocks(p_) + block, scratch.used[block], __ATOMIC_RELAXED);
        }
        std::fill_n(scratch.tokens, padded_keys(p_), 0);
        std::fill_n(scratch.used, blocks(p_), uint64_t{0});
        scratch.head_score = 0;
    }

    int32_t count_used(int64_t head) const {
        int32_t count = 0;
        for (int64_t block = 0; block < blocks(p_); ++block) {
            count += __builtin_popcountll(used_.as<uint64_t>()[head * blocks(p_) + block]);
        }
        return count;
    }

    // The first element of a head.
    template <class T>
    T* element(const Span& span, int64_t head) const {
        return span.as<T>() + head / p_.heads * span.strides[0] + head % p_.heads * span.strides[1];
    }

    const PrefillProblem& p_;
    const ScoredOutputs& outputs_;
    const PrefillKernels kernels_;
    const int threads_;
    const int64_t heads_, tiles_;
    core::AlignedBuffer used_;  // [heads, blocks] bits of the keys whose values were used
};

}  // namespace

void scored_attention(const ScoredInputs& inputs, const ScoredOutputs& outputs, int threads) {
    check_inputs(inputs, threads);
    check_outputs(inputs, outputs);
    const PrefillProblem p = problem_of(inputs, outputs);
    if (p.batch * p.heads == 0) return;
    Call(p, outputs, threads).run();
}

}  // namespace sparsecore::cpu
