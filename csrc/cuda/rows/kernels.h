// Gathering and scattering rows: copies at the bandwidth of memory.
//
// Floor: each moved row is read once and written once: its bytes twice over the bandwidth. One warp moves a row, with the widest
// units that all addresses allow, 16 bytes mostly: it reads and writes 512 consecutive bytes at a time.
#pragma once

#include "cuda/ptx/trap.h"
#include "cuda/ptx/warp.h"
#include "cuda/rows/args.h"

namespace sparsecore::cuda {

constexpr int kRowsThreads = 256, kRowsWarps = kRowsThreads / kWarpSize;

template <int kBytes>
struct alignas(kBytes) RowUnit {
    unsigned char byte[kBytes];
};

struct MovedRow {
    std::int64_t b, s;
};

// Calls body(row) for the moved rows of the caller, one of `workers` of a block.
template <class Body>
SC_DEVICE void for_moved_rows(const RowsArgs& a, int worker, int workers, Body&& body) {
    const std::int64_t all = static_cast<std::int64_t>(grid_dim_x()) * workers;
    for (std::int64_t i = static_cast<std::int64_t>(block_x()) * workers + worker; i < a.batch * a.m; i += all) {
        body(MovedRow{i / a.m, i % a.m});
    }
}
template <class Body>
SC_DEVICE void for_rows_of_warp(const RowsArgs& a, Body&& body) {
    for_moved_rows(a, static_cast<int>(thread_x() / kWarpSize), kRowsWarps, body);
}

template <int kUnit>
SC_DEVICE void copy_row(unsigned char* to, const unsigned char* from, std::int64_t bytes) {
    using Unit = RowUnit<kUnit>;
    for (std::int64_t i = thread_x() % kWarpSize; i < bytes / kUnit; i += kWarpSize) {
        reinterpret_cast<Unit*>(to)[i] = reinterpret_cast<const Unit*>(from)[i];
    }
}

SC_DEVICE std::int64_t place_of(const RowsArgs& a, MovedRow row) {
    return a.places[row.b * a.place_batch_stride + row.s * a.place_stride];
}
SC_DEVICE unsigned char* packed_row(const RowsArgs& a, MovedRow row) {
    return a.packed + row.b * a.packed_batch_stride + row.s * a.packed_row_stride;
}
SC_DEVICE unsigned char* whole_row(const RowsArgs& a, MovedRow row, std::int64_t place) {
    return a.whole + row.b * a.whole_batch_stride + place * a.whole_row_stride;
}

// Grid of each: any number of blocks of kRowsThreads. Places count from the end where they are negative, and others stop
// the kernel, as torch's indexing has it.
template <int kUnit>
SC_GLOBAL void gather_rows_kernel(RowsArgs a) {
    for_rows_of_warp(a, [&](MovedRow row) {
        std::int64_t place = place_of(a, row);
        if (place < 0) place += a.rows;
        if (place < 0 || place >= a.rows) trap("gather_rows: an index outside of the rows of x");
        copy_row<kUnit>(packed_row(a, row), whole_row(a, row, place), a.bytes);
    });
}

template <int kThreads>
SC_GLOBAL void clear_sources(RowsArgs a) {
    const std::int64_t all = static_cast<std::int64_t>(grid_dim_x()) * kThreads;
    for (std::int64_t i = static_cast<std::int64_t>(block_x()) * kThreads + thread_x(); i < a.batch * a.rows; i += all) {
        a.sources[i] = 0;
    }
}

// Where two slots name one place the later one wins: a maximum, in any order the same.
template <int kThreads>
SC_GLOBAL void mark_sources(RowsArgs a) {
    for_moved_rows(a, static_cast<int>(thread_x()), kThreads, [&](MovedRow row) {
        const std::int64_t place = place_of(a, row);
        if (place < 0 || place >= a.rows) return;
        atomic_max(&a.sources[row.b * a.rows + place], static_cast<std::uint32_t>(row.s + 1));
    });
}

template <int kUnit>
SC_GLOBAL void scatter_rows_kernel(RowsArgs a) {
    for_rows_of_warp(a, [&](MovedRow row) {
        const std::int64_t place = place_of(a, row);
        if (place < 0 || place >= a.rows) return;
        if (a.sources[row.b * a.rows + place] != static_cast<std::uint32_t>(row.s + 1)) return;
        copy_row<kUnit>(whole_row(a, row, place), packed_row(a, row), a.bytes);
    });
}

}  // namespace sparsecore::cuda
