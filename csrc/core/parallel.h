// The one parallel loop of the project. It runs on the threads that torch already has (see parallel.cpp).
#pragma once

#include <cstdint>
#include <type_traits>

namespace sparsecore::core {

using RangeFunction = void (*)(void* context, int64_t begin, int64_t end);

// Splits [begin, end) into at most `threads` contiguous ranges of at least `grain` items and calls function once
// for each. Ranges depend only on the arguments. The first exception of a range is rethrown here after all ranges
// have ended; ranges not yet begun are then left out. Called inside a range it runs on the calling thread.
void parallel_ranges(int64_t begin, int64_t end, int64_t grain, int threads, RangeFunction function, void* context);

// body(int64_t begin, int64_t end)
template <class Body>
void parallel_for(int64_t begin, int64_t end, int64_t grain, int threads, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    parallel_ranges(
        begin, end, grain, threads,
        [](void* context, int64_t first, int64_t last) { (*static_cast<Plain*>(context))(first, last); },
        const_cast<void*>(static_cast<const void*>(&body)));
}

// "gomp", "kmpc" or "std": whose threads the next call uses.
const char* thread_runtime();
// For tests: keep to the std::thread pool even where an OpenMP runtime is loaded.
void force_std_threads(bool force);

}  // namespace sparsecore::core
