// Weights of bytes, int8 or fp8, in the decode kernel (nm_linear/decode.h), whatever their tiles: quantised activations in, scaled sums out.
#pragma once

#include "core/dtype.h"
#include "cuda/nm_linear/int8/decode_products.h"
#include "cuda/nm_linear/int8/results.h"

namespace sparsecore::cuda {

// The base has x as quantise_tokens wrote it, two columns an element, for copies of 16 bytes.
struct Int8DecodeArgs : TwoFourArgs {
    Int8Args linear;
    core::DType type;  // of out
};

inline Int8DecodeArgs int8_decode_args(const Int8Args& a, core::DType type) {
    Int8DecodeArgs args{a.call, a, type};
    args.x = a.q;
    args.cols = args.x_token_stride = a.q_stride / 2;
    args.x_column_stride = 1;
    args.x_in_units = true;
    return args;
}

// One kernel for all types of out: a few results take a branch more, which no reader of a weight notices. E: of the weight.
template <class E>
struct ScaledResults {
    using Args = Int8DecodeArgs;
    using Sum = typename DecodeProducts<E>::Sum;
    static SC_DEVICE void store(const Args& a, std::int64_t token, std::int64_t row, Sum sum) {
        switch (a.type) {
            case core::DType::F32: return store_scaled<F32>(a.linear, token, row, sum);
            case core::DType::F16: return store_scaled<F16>(a.linear, token, row, sum);
            default: return store_scaled<BF16>(a.linear, token, row, sum);
        }
    }
};

}  // namespace sparsecore::cuda
