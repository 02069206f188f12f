// Decode attention on a CUDA device; cpu/attention/decode/decode.h says what it means. Five kernels, each queued behind the
// last one: scores over the high bits (scores.h), the low bits of queries that need them, the choice of V rows
// (choose.h), the products with V (values.h), the sums of the splits (finish.h). What follows from values on the device is
// decided there: blocks of a pass that no query needs leave at once.
#pragma once

#include "cpu/attention/decode/decode.h"
#include "cuda/attention/decode/args.h"

namespace sparsecore::cuda::decode {

// What the size of the workspace and the launches follow from: no value that is on the device.
struct Sizes {
    int64_t batch = 0, heads = 0, kv_heads = 0, value_width = 0;
    int64_t most_rows = 0;  // R of selected rows, else the width of the store
    bool prunes_values = false, group_values = false;
};

// Parts that every sequence's rows are cut into, so that the blocks fill `multiprocessors` of them.
int splits_for(const Sizes& sizes, int multiprocessors);
int64_t workspace_bytes(const Sizes& sizes, int splits);

// Checks every size and type of a call; nothing is read through the spans, whose pointers are device memory. `workspace`:
// bytes, from a multiple of 16 on. The errors of cpu::decode_attention but IndexTableError, since indices are not read:
// places.h says what becomes of wrong ones. ShapeError beyond the sizes of args.h.
Args decode_args(const core::Span& q, const cpu::DecodeStore& store, const cpu::DecodeSeen& seen, const cpu::DecodeRule& rule,
                 const cpu::DecodeOutputs& outputs, const core::Span& workspace, int multiprocessors);

// Queues the kernels on a CUDA stream and returns at once.
void decode_launch(const Args& args, uint64_t stream);

// Of decode_launch; each in a file of its own.
void scores_launch_dense(const Args& args, uint64_t stream);
void scores_launch_planes(const Args& args, uint64_t stream);  // the low pass as well
void values_launch(const Args& args, uint64_t stream);

}  // namespace sparsecore::cuda::decode
