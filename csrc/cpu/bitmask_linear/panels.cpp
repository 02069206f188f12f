// The loops around the vector kernels, the same for every instruction set.
//
// Few tokens, and one or two vectors of them, read the weight once, row by row. Many tokens: activations are packed for a
// block of tokens; then, for a panel of rows at a time, the lists are sorted by chunk, and for each tile of tokens and
// chunk all rows of the panel are multiplied while the tile's chunk stays in the first-level cache. Sums are kept
// between the chunks.
#include <algorithm>

#include "core/buffer.h"
#include "core/checked.h"
#include "cpu/bitmask_linear/kernels.h"
#include "cpu/common/linear_prepare.h"

namespace sparsecore::cpu {

namespace {

constexpr int64_t kPanelRows = 512;
constexpr int64_t kMostScratch = int64_t{24} << 20;   // of all threads
constexpr int64_t kThreadScratch = int64_t{8} << 20;  // of one, half for activations and half for lists
constexpr int64_t kFlatValues = 512;  // made flat at once, so that they stay in the first-level cache
constexpr int64_t kLongRow = 32768;  // columns: a longer row takes tiles of one vector of tokens

struct Part {
    int64_t token_begin, token_end, row_begin, row_end;
};

template <class T>
T* reserve(core::AlignedBuffer& buffer, int64_t count) {
    return static_cast<T*>(buffer.reserve(core::checked_mul(count, sizeof(T), "scratch")));
}

// Rows of a weight as lists, whatever its layout.
class RowReader {
public:
    RowReader(const BitmaskWeight& weight, const BitmaskKernels& kernels)
        : weight_(weight), kernels_(kernels), chunks_(chunk_count(weight.cols)) {}

    // Valid until the next call.
    RowLists read(int64_t row, int64_t rows) {
        const int64_t first = row_start(weight_, row);
        const char* values = static_cast<const char*>(weight_.values) + first * core::itemsize(weight_.dtype);
        if (weight_.bitmask == nullptr) return {values, weight_.columns + first, weight_.counts + row * chunks_};
        thread_local core::AlignedBuffer columns_buffer, counts_buffer;
        const int64_t kept = row_start(weight_, row + rows) - first;
        auto* columns = reserve<uint8_t>(columns_buffer, kept + kListSlack);
        auto* counts = reserve<uint8_t>(counts_buffer, rows * chunks_);
        const int64_t row_bytes = weight_.cols / 8 + (weight_.cols % 8 != 0);
        kernels_.decode(weight_.bitmask + row * row_bytes, rows, weight_.cols, columns, counts);
        return {values, columns, counts};
    }

    // What reading these rows will touch.
    Ahead ahead(int64_t row, int64_t rows) const {
        const int64_t first = row_start(weight_, row), kept = row_start(weight_, row + rows) - first;
        const int64_t size = core::itemsize(weight_.dtype), row_bytes = weight_.cols / 8 + (weight_.cols % 8 != 0);
        const char* values = static_cast<const char*>(weight_.values) + first * size;
        if (weight_.bitmask == nullptr) {
            return {{values, reinterpret_cast<const char*>(weight_.columns + first)}, {kept * size, kept}};
        }
        return {{values, reinterpret_cast<const char*>(weight_.bitmask + row * row_bytes)}, {kept * size, rows * row_bytes}};
    }

private:
    const BitmaskWeight& weight_;
    const BitmaskKernels& kernels_;
    const int64_t chunks_;
};

void run_few(const LinearCall& call, const BitmaskWeight& w, const BitmaskKernels& kernels, const Part& part) {
    thread_local core::AlignedBuffer activations;
    const int64_t stride = chunk_count(w.cols) * kChunk;
    auto* x = reserve<float>(activations, stride * call.tokens);
    kernels.pack_few(call, x);
    const double density = static_cast<double>(w.nnz) / static_cast<double>(w.rows) / static_cast<double>(stride);
    RowReader reader(w, kernels);
    for (int64_t row = part.row_begin; row < part.row_end; row += kRowGroup) {
        const int64_t rows = std::min(kRowGroup, part.row_end - row);
        kernels.few_rows(call, reader.read(row, rows), row, rows, density, x);
    }
}

// Half a vector where that is enough.
int64_t flat_width(const LinearCall& call, const BitmaskKernels& kernels) {
    return call.tokens <= 8 ? 8 : core::round_up(call.tokens, kernels.lanes, "tokens");
}

bool fits_flat(const LinearCall& call, const BitmaskWeight& w, const BitmaskKernels& kernels) {
    constexpr int64_t kCache = 640 << 10;  // of the second level, what activations may take
    return call.tokens <= 2 * kernels.lanes && w.cols <= kFlatColumns && 4 * flat_width(call, kernels) * w.cols <= kCache;
}

void run_flat(const LinearCall& call, const BitmaskWeight& w, const BitmaskKernels& kernels, const Part& part) {
    thread_local core::AlignedBuffer activations, values, columns;
    const int64_t width = flat_width(call, kernels), chunks = chunk_count(w.cols);
    auto* tile = reserve<float>(activations, width * w.cols);
    kernels.pack(call, 0, call.tokens, width, tile);
    const int64_t sums_width = std::max(width, kernels.lanes);
    alignas(64) float sums[kRowGroup * 32];
    int64_t counts[kRowGroup];
    const bool dense = often_more_than(32, w);
    const int64_t at_once = std::clamp<int64_t>(kFlatValues / (w.nnz / w.rows + 1), 1, kRowGroup);
    RowReader reader(w, kernels);
    for (int64_t row = part.row_begin, end = row; row < part.row_end; row = end) {
        end = std::min(row + kRowGroup, part.row_end);
        for (int64_t first = row, rows = 0; first < end; first += rows) {
            rows = std::min(at_once, end - first);
            const int64_t size = row_start(w, first + rows) - row_start(w, first) + kListSlack;
            const FlatScratch scratch{reserve<float>(values, size), reserve<uint16_t>(columns, size), counts};
            const FlatLists lists = kernels.flatten(w.dtype, reader.read(first, rows), rows, chunks, dense, scratch);
            const int64_t next = std::min(first + kRowGroup, part.row_end);
            const Ahead ahead = reader.ahead(next, std::min(rows, part.row_end - next));
            kernels.flat_rows(lists, ahead, rows, width, tile, sums + (first - row) * sums_width);
        }
        kernels.store(call, sums, sums_width, 0, call.tokens, row, end - row);
    }
}

// The lists of a panel, sorted by chunk.
struct Panel {
    int64_t row, rows;
    float* values;
    uint8_t* columns;
    uint8_t* counts;  // [chunks, rows]
    int64_t* starts;  // [chunks]
};

Panel sort_by_chunk(const RowLists& lists, int64_t row, int64_t rows, int64_t kept, const BitmaskWeight& w,
                    const BitmaskKernels& kernels) {
    thread_local core::AlignedBuffer values, columns, counts, starts;
    const int64_t chunks = chunk_count(w.cols), size = kept + kListSlack * chunks;
    Panel panel{row, rows, reserve<float>(values, size), reserve<uint8_t>(columns, size),
                reserve<uint8_t>(counts, chunks * rows), reserve<int64_t>(starts, 2 * chunks)};
    int64_t* places = panel.starts + chunks;
    std::fill(panel.starts, panel.starts + chunks, int64_t{0});
    for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < chunks; ++c) {
            panel.counts[c * rows + r] = lists.counts[r * chunks + c];
            panel.starts[c] += lists.counts[r * chunks + c];
        }
    }
    for (int64_t c = 0, start = 0; c < chunks; ++c) {
        const int64_t count = panel.starts[c];
        panel.starts[c] = places[c] = start;
        start += count + kListSlack;
    }
    kernels.to_chunks(w.dtype, lists, rows, chunks, often_more_than(32, w), {panel.values, panel.columns, places});
    return panel;
}

class ManyTokens {
public:
    ManyTokens(const LinearCall& call, const BitmaskWeight& weight, const BitmaskKernels& kernels)
        : call_(call), w_(weight), kernels_(kernels) {
        budget_ = std::min(kThreadScratch, kMostScratch / call.threads) / 2;
        tile_ = tile_tokens(weight, kernels);
        const int64_t fitting = budget_ / (4 * std::max<int64_t>(weight.cols, 1));
        block_ = std::max(tile_, fitting / tile_ * tile_);
    }

    // Depends on the weight alone.
    static int64_t tile_tokens(const BitmaskWeight& weight, const BitmaskKernels& kernels) {
        return kernels.lanes * (weight.cols > kLongRow ? 1 : kTileVectors);
    }

    void run(const Part& part) {
        RowReader reader(w_, kernels_);
        for (int64_t token = part.token_begin; token < part.token_end; token += block_) {
            const int64_t end = std::min(token + block_, part.token_end);
            const float* tiles = pack(token, end);
            for (int64_t row = part.row_begin, rows = 0; row < part.row_end; row += rows) {
                rows = panel_rows(row, part.row_end);
                const int64_t kept = row_start(w_, row + rows) - row_start(w_, row);
                multiply(sort_by_chunk(reader.read(row, rows), row, rows, kept, w_, kernels_), tiles, token, end);
            }
        }
    }

private:
    int64_t width(int64_t tokens) const { return core::round_up(tokens, kernels_.lanes, "tokens"); }

    const float* pack(int64_t begin, int64_t end) {
        thread_local core::AlignedBuffer activations;
        auto* tiles = reserve<float>(activations, core::checked_mul(width(end - begin), w_.cols, "activations"));
        for (int64_t token = begin; token < end; token += tile_) {
            const int64_t count = std::min(tile_, end - token);
            kernels_.pack(call_, token, count, width(count), tiles + (token - begin) * w_.cols);
        }
        return tiles;
    }

    // As many as fit the scratch memory, at least one.
    int64_t panel_rows(int64_t row, int64_t end) const {
        const int64_t most = budget_ / 5, first = row_start(w_, row);  // bytes of a value and its column
        int64_t rows = std::min(kPanelRows, end - row);
        while (rows > 1 && row_start(w_, row + rows) - first > most) rows = (rows + 1) / 2;
        return rows;
    }

    void multiply(const Panel& panel, const float* tiles, int64_t begin, int64_t end) {
        thread_local core::AlignedBuffer buffer;
        auto* sums = reserve<float>(buffer, panel.rows * tile_);
        const int64_t chunks = chunk_count(w_.cols);
        for (int64_t token = begin; token < end; token += tile_) {
            const int64_t count = std::min(tile_, end - token), wide = width(count);
            const float* tile = tiles + (token - begin) * w_.cols;
            std::fill(sums, sums + panel.rows * wide, 0.0f);
            for (int64_t c = 0; c < chunks; ++c) {
                const int64_t start = panel.starts[c];
                kernels_.chunk_rows(panel.values + start, panel.columns + start, panel.counts + c * panel.rows, panel.rows,
                                    wide, tile + c * kChunk * wide, sums);
            }
            kernels_.store(call_, sums, wide, token, count, panel.row, panel.rows);
        }
    }

    const LinearCall& call_;
    const BitmaskWeight& w_;
    const BitmaskKernels& kernels_;
    int64_t budget_, tile_, block_;
};

// The first group of rows of part `part` of `parts`, so that each has about as many values.
int64_t group_bound(const BitmaskWeight& w, int64_t part, int64_t parts) {
    const int64_t groups = core::ceil_div(w.rows, kRowGroup), row_cost = w.cols / 16 + 16;
    const double total = static_cast<double>(w.nnz) + static_cast<double>(row_cost) * static_cast<double>(w.rows);
    const double goal = total * static_cast<double>(part) / static_cast<double>(parts);
    int64_t low = 0, high = groups;
    while (low < high) {
        const int64_t middle = (low + high) / 2, row = middle * kRowGroup;
        const double cost = static_cast<double>(row_start(w, row)) + static_cast<double>(row_cost) * static_cast<double>(row);
        if (cost < goal) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

}  // namespace

void bitmask_linear(const LinearCall& call, const BitmaskWeight& w, const BitmaskKernels& kernels) {
    constexpr double kWorkPerThread = 1 << 16;  // multiply-adds worth waking a thread for
    const double work = static_cast<double>(call.tokens) * static_cast<double>(w.nnz + w.rows);
    const double useful = work / kWorkPerThread + 1.0;
    const int threads = useful < call.threads ? static_cast<int>(useful) : call.threads;
    const bool few = call.tokens <= kernels.few_tokens;
    const int64_t tile = ManyTokens::tile_tokens(w, kernels), tiles = core::ceil_div(call.tokens, tile);
    const bool flat = !few && fits_flat(call, w, kernels);
    const auto run = [&](const Part& part) {
        if (few) {
            run_few(call, w, kernels, part);
        } else if (flat) {
            run_flat(call, w, kernels, part);
        } else {
            ManyTokens(call, w, kernels).run(part);
        }
    };
    if (few || flat || core::ceil_div(w.rows, kRowGroup) >= 2 * threads || tiles < threads) {
        core::parallel_for(0, threads, 1, threads, [&](int64_t begin, int64_t end) {
            const int64_t last = std::min(w.rows, group_bound(w, end, threads) * kRowGroup);
            run({0, call.tokens, group_bound(w, begin, threads) * kRowGroup, last});
        });
    } else {
        core::parallel_for(0, tiles, 1, threads, [&](int64_t begin, int64_t end) {
            run({begin * tile, std::min(call.tokens, end * tile), 0, w.rows});
        });
    }
}

}  // namespace sparsecore::cpu
