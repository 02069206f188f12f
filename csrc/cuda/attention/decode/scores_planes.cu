#include "cuda/attention/decode/scores_launch.h"

namespace sparsecore::cuda::decode {

void scores_launch_planes(const Args& args, std::uint64_t stream) {
    if (args.keys.planes == 3) {
        launch_scores<Keys::BytesAndNibbles>(args, stream);
    } else if (args.keys.first_offset == 8) {
        launch_scores<Keys::Nibbles>(args, stream);
    } else {
        launch_scores<Keys::Bytes>(args, stream);
    }
    // No probability is below a threshold of 0.
    if (args.threshold > 0.0f) launch_scores<Keys::Low>(args, stream);
}

}  // namespace sparsecore::cuda::decode
