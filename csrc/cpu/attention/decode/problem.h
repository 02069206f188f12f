// What the checks hand to the phases and the phases to the kernels of an instruction set.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace sparsecore::cpu {

// A tensor of the store; strides in bytes. A row is contiguous.
struct DecodePart {
    const uint8_t* data = nullptr;
    int64_t batch_stride = 0, head_stride = 0, row_stride = 0;

    [[gnu::always_inline]] const uint8_t* head(int64_t batch, int64_t kv_head) const {
        return data + batch * batch_stride + kv_head * head_stride;
    }
};

// One plane of the keys. An element counts as (stored - offset), and what earlier planes gave counts 2^bits as much.
struct DecodePlane {
    DecodePart part;
    bool nibbles = false, first = false;
    int offset = 0, bits = 0;
};

// Any other tensor; strides in elements.
struct DecodeTensor {
    void* data = nullptr;
    int64_t batch_stride = 0, head_stride = 0, last_stride = 0;

    int64_t at(int64_t batch, int64_t head, int64_t i = 0) const {
        return batch * batch_stride + head * head_stride + i * last_stride;
    }
};

struct DecodeProblem {
    int64_t batch = 0, heads = 0, kv_heads = 0, group = 0, width = 0, value_width = 0;
    int64_t slots = 0;      // the width of the store: what starts and lengths may cover
    int64_t most_rows = 0;  // R of selected rows, else the width of the store
    int64_t pages = 0;      // of a paged store; 0: a sequence owns its rows
    int64_t page_slots = 0;
    core::DType type = core::DType::F32;  // of q and out
    int planes = 0;                       // with the low one; 0: dense keys
    DecodePlane plane[3];
    DecodePart keys, key_scales, values, value_scales;
    core::DType key_type = core::DType::F32, value_type = core::DType::F32;  // value_type I8: with scales
    DecodeTensor q, out, lse, token_scores, head_scores, low, values_used, heads_kept;  // data null: not there
    DecodeTensor page_table;  // head_stride: of an entry
    float scale = 1.0f, threshold = 0.0f, value_mass = 0.0f;
    double value_keep = 1.0;
    bool group_values = false;
};

constexpr int64_t kDecodePad = 64;    // rows of queries and sums are padded to it
constexpr int64_t kDecodeBlock = 64;  // V rows that share a scale of the 16-bit probabilities
constexpr int64_t kDecodeAhead = 64;  // entries that may be read past the end of a list of rows
constexpr int kDecodeQueryBits = 15;
// Integer sums of one plane stay in 32 bits up to this head size: 2^14 * 2^8 * 511 < 2^31.
constexpr int64_t kDecodeMaxPlaneWidth = 511;

// 2^f = 1 + c[0] f + c[1] f^2 + ... for |f| <= 1/2, a least-maximum fit of ours: the rest is below 2e-8 in fp32.
constexpr float kDecodeExp2[6] = {6.93147203e-1f, 2.40226479e-1f, 5.55033247e-2f,
                                  9.61843737e-3f, 1.33988747e-3f, 1.53533592e-4f};

static inline int64_t decode_padded(int64_t n) { return (n + kDecodePad - 1) / kDecodePad * kDecodePad; }

// Rows of one head: slots first, first + 1, ... or, with a list, those in it.
struct DecodeRows {
    int64_t first = 0, count = 0;
    const int32_t* list = nullptr;

    [[gnu::always_inline]] int64_t slot(int64_t i) const { return list == nullptr ? first + i : list[i]; }
    DecodeRows part(int64_t begin, int64_t end) const {
        return {first + begin, end - begin, list == nullptr ? nullptr : list + begin};
    }
};

// One query head. `values` and `integers` are padded with zeros; `layout` (8 bytes an element) is the kernel's own.
struct DecodeQuery {
    float* values = nullptr;
    int16_t* integers = nullptr;
    uint8_t* layout = nullptr;
    int32_t sum = 0;     // of the integers
    float scale = 0.0f;  // of the integers
};

// score = (product * weight + addend) * factor * scales[row], in units of log 2.
struct DecodeScoring {
    float weight = 1.0f, addend = 0.0f, factor = 1.0f;
    const uint8_t* scales = nullptr;  // fp32, one a slot; null: 1
    int64_t scale_stride = 0;         // bytes
};

// score = log2(sum) + largest belongs to the sum of exp2(score).
struct DecodeSums {
    float largest = 0.0f, sum = 0.0f;
};

// Arrays of rows are padded to kDecodePad and may be written up to there.
struct DecodeKernels {
    // Lays out a query whose values and integers are there.
    void (*prepare)(const DecodeProblem&, const DecodeQuery&);

    // products[q][i] = query q times row i of one head's keys.
    void (*dense_products)(const DecodeProblem&, const uint8_t* keys, const DecodeRows&, const DecodeQuery*,
                           int64_t queries, float* const* products);

    // products = products * 2^bits + fp32(query times plane), with one rounding; of the first plane the latter alone.
    void (*plane_products)(const DecodeProblem&, const DecodePlane&, const uint8_t* data, const DecodeRows&,
                           const DecodeQuery*, int64_t queries, float* const* products);

    // p[i] = exp2(score of row i - largest), not normalised.
    DecodeSums (*softmax)(const DecodeScoring&, const DecodeRows&, const float* products, float* p);

    // out[i] = round(p[i] * unit).
    void (*token_scores)(const float* p, int64_t n, float unit, int64_t* out);

    // Elements of p >= 0 with bits above `bits`, and the first `ties` with equal ones: places ascending and their values.
    void (*collect)(const float* p, int64_t n, uint32_t bits, int64_t ties, int32_t* places, float* values);

    // sums[q * padded + d] = sum over rows of weights[q][i] * value d, in fp32.
    void (*values)(const DecodeProblem&, int64_t batch, int64_t kv_head, const DecodeRows&, const float* const* weights,
                   int64_t queries, float* sums);
};

DecodeKernels decode_portable();
DecodeKernels decode_avx2();
DecodeKernels decode_avx512();
void decode_use_avx512_bf16(DecodeKernels& table, const DecodeProblem& p);
void decode_use_amx(DecodeKernels& table);

}  // namespace sparsecore::cpu
