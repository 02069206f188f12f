#include "cuda/attention/decode/decode.h"
#include "cuda/attention/decode/values.h"
#include "cuda/runtime/launch.h"

namespace sparsecore::cuda::decode {

namespace {

template <class T>
void launch_values(const Args& a, std::uint64_t stream) {
    constexpr const char* kWhere = "cuda_decode_attention";
    const Grid grid{static_cast<unsigned>(a.batch * a.kv_heads * a.chunks * a.splits)};
    if (a.group <= kQueries / 2) {
        return launch(kWhere, values_kernel<T, kQueries / 2>, grid, kThreads, shared_bytes<ValuesShared>(), stream, a);
    }
    launch(kWhere, values_kernel<T, kQueries>, grid, kThreads, shared_bytes<ValuesShared>(), stream, a);
}

}  // namespace

void values_launch(const Args& args, std::uint64_t stream) {
    switch (args.value_type) {
        case core::DType::I8: return launch_values<I8>(args, stream);
        case core::DType::F32: return launch_values<F32>(args, stream);
        case core::DType::F16: return launch_values<F16>(args, stream);
        default: return launch_values<BF16>(args, stream);
    }
}

}  // namespace sparsecore::cuda::decode
