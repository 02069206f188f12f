#include "cuda/golden/replay.h"

#include <algorithm>

#include "core/error.h"

namespace sparsecore::cuda::golden {

namespace {

constexpr unsigned char kPoison = 0xcd;  // in outputs beforehand: what a case does not write is seen

Bytes run(const Case& wanted, const Bytes& input) {
    const DeviceBytes in(input), out(Bytes(wanted.output_bytes, kPoison));
    wanted.launch(in.get(), out.get());
    synchronize();
    return out.read();
}

const Case& case_of(const Vector& recorded) {
    const std::vector<Case>& cases = all_cases();
    const auto found = std::find_if(cases.begin(), cases.end(), [&](const Case& one) { return recorded.name == one.name; });
    const char* hint = "record it anew on a GPU: make gpu PART=golden";
    if (found == cases.end()) throw core::Error("CorruptFileError", "no case of this name", recorded.name, "", hint);
    if (recorded.input.size() != found->input_bytes || recorded.output.size() != found->output_bytes) {
        throw core::Error("CorruptFileError", "the case has changed since", recorded.name,
                          std::to_string(found->input_bytes) + " bytes in, " + std::to_string(found->output_bytes) + " out", hint);
    }
    return *found;
}

}  // namespace

const std::vector<Case>& all_cases() {
    static const std::vector<Case> cases = [] {
        std::vector<Case> all;
        for (const auto& list : {thread_cases(), bit_cases(), arithmetic_cases(), warp_cases(), copy_cases(), matrix_cases(), byte_product_cases(), barrier_cases(), cluster_cases(), tile_cases(),
                                 row_cases(), warpgroup_cases(), warpgroup_byte_cases()}) {
            all.insert(all.end(), list.begin(), list.end());
        }
        return all;
    }();
    return cases;
}

Vector record(const Case& wanted, Random& random) {
    Vector vector;
    vector.name = wanted.name;
    vector.instruction = wanted.instruction;
    vector.input.resize(wanted.input_bytes);
    wanted.draw(random, vector.input.data());
    vector.output = run(wanted, vector.input);
    if (run(wanted, vector.input) != vector.output) {
        throw core::Error("UnsupportedError", "two runs on the same input differ", wanted.name, "the same output");
    }
    return vector;
}

std::string difference(const Vector& recorded) {
    const Case& wanted = case_of(recorded);
    std::string found;
    if (!runs_here(wanted)) return found;
    in_every_schedule([&] {
        const Bytes got = run(wanted, recorded.input);
        if (!found.empty() || wanted.equal(recorded.output.data(), got.data())) return;
        const auto [was, is] = std::mismatch(recorded.output.begin(), recorded.output.end(), got.begin());
        found = "byte " + std::to_string(was - recorded.output.begin()) + " of " + std::to_string(got.size()) + " was " +
                std::to_string(*was) + ", is " + std::to_string(*is);
    });
    return found;
}

}  // namespace sparsecore::cuda::golden
