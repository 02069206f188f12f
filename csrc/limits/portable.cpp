#include "limits/kernels.h"

namespace sparsecore::limits {

uint64_t read_portable(const void* data, int64_t lines) {
    const auto* words = static_cast<const uint64_t*>(data);
    uint64_t sums[8] = {};
    const int64_t stream = lines / kStreams * 8;
    for (int64_t at = 0; at < stream; at += 8) {
        for (int part = 0; part < kStreams; ++part) {
            for (int i = 0; i < 8; ++i) sums[i] += words[part * stream + at + i];
        }
    }
    for (int64_t at = kStreams * stream; at < lines * 8; ++at) sums[0] += words[at];
    uint64_t sum = 0;
    for (uint64_t part : sums) sum += part;
    return sum;
}

// Four floats a chain, the narrowest vector that a compiler may choose; contraction is off, so it multiplies, then adds.
int64_t fp32_portable(int64_t rounds, void* state) {
    auto* memory = static_cast<float*>(state);
    float sums[kChains * 4];
    for (int i = 0; i < kChains * 4; ++i) sums[i] = memory[i];
    for (int64_t round = 0; round < rounds; ++round) {
        for (int i = 0; i < kChains * 4; ++i) sums[i] = sums[i] * 0.999f + 0.001f;
    }
    for (int i = 0; i < kChains * 4; ++i) memory[i] = sums[i];
    return rounds * kChains * 4 * 2;
}

}  // namespace sparsecore::limits
