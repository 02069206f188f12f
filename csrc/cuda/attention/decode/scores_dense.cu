#include "cuda/attention/decode/scores_launch.h"

namespace sparsecore::cuda::decode {

void scores_launch_dense(const Args& args, std::uint64_t stream) {
    switch (args.type) {
        case core::DType::F32: return launch_scores<Keys::F32>(args, stream);
        case core::DType::F16: return launch_scores<Keys::F16>(args, stream);
        default: return launch_scores<Keys::BF16>(args, stream);
    }
}

}  // namespace sparsecore::cuda::decode
