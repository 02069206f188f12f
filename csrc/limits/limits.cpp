#include "limits/limits.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>

#include "core/buffer.h"
#include "core/checked.h"
#include "core/error.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "limits/kernels.h"

namespace sparsecore::limits {

namespace {

using core::Isa;

constexpr int64_t kLine = 64;
constexpr int64_t kMostBytes = int64_t{1} << 34;
constexpr double kMostSeconds = 60;
constexpr int kMostThreads = 4096;
// Long beside the start of a parallel region, short beside a turn of the scheduler: about a millisecond.
constexpr int64_t kPeakRounds = int64_t{1} << 18;
#if defined(SPARSECORE_EMULATE_TILES)
constexpr int64_t kTileRounds = 1;  // the model of the tiles is slow
#else
constexpr int64_t kTileRounds = int64_t{1} << 15;
#endif

bool uses(Isa isa) { return static_cast<uint32_t>(core::runtime_isa()) >= static_cast<uint32_t>(isa); }

void check(int threads, double seconds) {
    if (threads < 1 || threads > kMostThreads) {
        throw core::Error("InvalidValueError", "threads is " + std::to_string(threads), "threads", "1 to 4096");
    }
    if (!(seconds > 0 && seconds <= kMostSeconds)) {
        throw core::Error("InvalidValueError", "seconds is " + std::to_string(seconds), "seconds",
                          "more than 0 and at most 60");
    }
}

// pass() -> amount done; the best amount a second of at least three passes.
template <class Pass>
double best_rate(double seconds, Pass&& pass) {
    using Clock = std::chrono::steady_clock;
    const auto since = [](Clock::time_point start) {
        return std::chrono::duration<double>(Clock::now() - start).count();
    };
    pass();  // wakes the threads and raises the clock
    double best = 0;
    const auto begin = Clock::now();
    for (int done = 0; done < 3 || since(begin) < seconds; ++done) {
        const auto start = Clock::now();
        const double amount = static_cast<double>(pass());
        best = std::max(best, amount / std::max(since(start), 1e-9));
    }
    return best;
}

ReadLoop read_loop() {
#if defined(SPARSECORE_HAVE_AVX512)
    if (uses(Isa::Avx512)) return read_avx512;
#endif
#if defined(SPARSECORE_HAVE_AVX2)
    if (uses(Isa::Avx2)) return read_avx2;
#endif
    return read_portable;
}

PeakLoop fp32_loop() {
#if defined(SPARSECORE_HAVE_AVX512)
    if (uses(Isa::Avx512)) return fp32_avx512;
#endif
#if defined(SPARSECORE_HAVE_AVX2)
    if (uses(Isa::Avx2)) return fp32_avx2;
#endif
    return fp32_portable;
}

// The loop of a unit; none where the instruction set in use lacks it.
PeakLoop peak_loop(const std::string& unit) {
    if (unit == "fp32") return fp32_loop();
    if (unit == "bf16") {
#if defined(SPARSECORE_HAVE_AVX512BF16)
        if (uses(Isa::Avx512) && core::cpu_has("avx512bf16")) return bf16_avx512;
#endif
        return nullptr;
    }
    if (unit == "int8") {
#if defined(SPARSECORE_HAVE_AVX512)
        if (uses(Isa::Avx512)) return int8_avx512;
#endif
        return nullptr;
    }
    if (unit == "amx_bf16" || unit == "amx_int8") {
#if defined(SPARSECORE_HAVE_AMX)
        if (uses(Isa::Amx)) return unit == "amx_bf16" ? bf16_amx : int8_amx;
#endif
        return nullptr;
    }
    throw core::Error("UnknownNameError", "no unit '" + unit + "'", "unit", "fp32, bf16, int8, amx_bf16 or amx_int8");
}

}  // namespace

double read_rate(int64_t size, int threads, double seconds) {
    check(threads, seconds);
    if (size < kLine || size > kMostBytes) {
        throw core::Error("InvalidValueError", "size is " + std::to_string(size), "size", "64 to 2^34 bytes");
    }
    const int64_t lines = size / kLine;
    core::AlignedBuffer buffer(lines * kLine);
    auto* data = buffer.as<char>();
    const ReadLoop read = read_loop();
    // Written first: memory that was never written is all one page of zeros.
    core::parallel_for(0, lines, 1, threads, [&](int64_t begin, int64_t end) {
        std::memset(data + begin * kLine, 1, static_cast<size_t>((end - begin) * kLine));
    });
    // A buffer that stays in a cache is read so fast that one pass would be shorter than its parallel region.
    const int64_t repeats = std::max<int64_t>(1, (int64_t{16} << 20) / (lines * kLine));
    std::atomic<uint64_t> sink{0};
    return best_rate(seconds, [&] {
        core::parallel_for(0, lines, 1, threads, [&](int64_t begin, int64_t end) {
            uint64_t sum = 0;
            for (int64_t i = 0; i < repeats; ++i) sum += read(data + begin * kLine, end - begin);
            sink.fetch_add(sum, std::memory_order_relaxed);
        });
        return repeats * lines * kLine;
    });
}

double peak_rate(const std::string& unit, int threads, double seconds) {
    check(threads, seconds);
    const PeakLoop loop = peak_loop(unit);
    if (loop == nullptr) return 0;
    const int64_t rounds = unit.rfind("amx", 0) == 0 ? kTileRounds : kPeakRounds;
    core::AlignedBuffer states(core::checked_mul(threads, kStateBytes, "states"));
    auto* floats = states.as<float>();
    for (int64_t i = 0; i < states.bytes() / 4; ++i) floats[i] = 1.0f / static_cast<float>(i % 1024 + 1);
    std::atomic<int64_t> operations{0};
    return best_rate(seconds, [&] {
        operations.store(0, std::memory_order_relaxed);
        core::parallel_for(0, threads, 1, threads, [&](int64_t begin, int64_t end) {
            for (int64_t t = begin; t < end; ++t) {
                operations.fetch_add(loop(rounds, states.as<char>() + t * kStateBytes), std::memory_order_relaxed);
            }
        });
        return operations.load(std::memory_order_relaxed);
    });
}

}  // namespace sparsecore::limits
