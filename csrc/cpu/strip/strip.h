// A strip is 16 rows (outputs) of a sparse weight made dense for some columns, zero where nothing is kept and past the
// edges. Its order is the one in which dot-product instructions (vdpbf16ps, vpdpbusd, the tiles of AMX) take weights:
//
//   [column groups][16 rows][4 / itemsize]     a group is 4 bytes of neighbouring columns: 1 fp32, 2 bf16 or fp16, 4 int8
//
// so that one vector of 64 bytes holds one group of all 16 rows. A window is the 16 groups (1 KiB) that one AMX tile
// takes: 16, 32 or 64 columns. Each kernel folder has an expander for the resident layouts that it makes dense; whoever
// multiplies strips does not know the layout that they come from.
#pragma once

#include <cstdint>

namespace sparsecore::cpu {

constexpr int64_t kStripOutputs = 16;
constexpr int64_t kWindowGroups = 16;
constexpr int64_t kWindowBytes = kWindowGroups * kStripOutputs * 4;

static inline int64_t window_columns(int64_t itemsize) { return kWindowGroups * 4 / itemsize; }

// Where the expansion of one strip stands. Weights whose rows keep different counts find their next values by it.
struct StripReader {
    const void* weight;  // StripSource::weight
    int64_t strip;       // rows 16 * strip .. 16 * strip + 15
    int64_t places[16];  // for the expander
};

// A weight that can be read strip by strip. Functions are plain pointers: expanders live in files of one instruction set.
struct StripSource {
    const void* weight;
    int64_t strips;
    int64_t panel_strips = 2;  // 1 where neighbouring strips rarely share windows
    int64_t batch = 1;         // windows that one call of `expand` makes dense: 1, 2 or 4
    int64_t few_tokens = 4;    // up to here the kernel that reads the compressed weight is faster

    // Sets places; strip and weight are set already. May be null.
    void (*open)(StripReader& reader) = nullptr;
    // The next windows of the strip: columns from `column` (a multiple of the batch) on, each window 1 KiB aligned to 64
    // bytes, `stride` bytes after the one before. The columns of successive calls ascend; what lies in between holds nothing.
    void (*expand)(StripReader& reader, int64_t column, void* out, int64_t stride) = nullptr;
    // First columns, ascending, of the windows in which any of the strips strip .. strip + count - 1 keeps something;
    // returns their number. Null: all windows. Only where the batch is 1.
    int64_t (*windows)(const void* weight, int64_t strip, int64_t count, int32_t* columns) = nullptr;
};

}  // namespace sparsecore::cpu
