// Golden vectors of csrc/cuda/ptx: recorded on a GPU, replayed by the emulator or on another GPU.
//
//     sparsecore_golden record FOLDER DRIVER DATE [CASE]   one file a case, or one; cases that this GPU lacks are named
//     sparsecore_golden replay FOLDER                      fails if an output differs from the recorded one
//     sparsecore_golden list                               the names of the cases that run here
#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "core/error.h"
#include "cuda/golden/replay.h"
#include "cuda/runtime/runtime.h"

namespace golden = sparsecore::cuda::golden;

namespace {

constexpr const char* kEnding = ".golden";

std::string gpu_name() {
    const sparsecore::cuda::RuntimeInfo info = sparsecore::cuda::runtime_info();
    if (!info.available) throw sparsecore::core::Error("UnsupportedError", info.reason, "golden vectors", "a GPU");
    const sparsecore::cuda::DeviceInfo& device = info.devices.front();
    return device.name + ", capability " + std::to_string(device.major) + "." + std::to_string(device.minor);
}

int list() {
    for (const golden::Case& one : golden::all_cases()) {
        if (golden::runs_here(one)) std::printf("%s\n", one.name);
    }
    return 0;
}

int record(const std::filesystem::path& folder, const std::string& driver, const std::string& date, const std::string& only) {
    const std::string gpu = gpu_name();
    golden::Random random(std::random_device{}());
    int count = 0;
    for (const golden::Case& one : golden::all_cases()) {
        if (!only.empty() && only != one.name) continue;
        if (!golden::runs_here(one)) {
            std::printf("not on this GPU: %s (%s)\n", one.name, one.instruction);
            continue;
        }
        golden::Vector vector = golden::record(one, random);
        vector.gpu = gpu;
        vector.driver = driver;
        vector.date = date;
        golden::write_vector((folder / (vector.name + kEnding)).string(), vector);
        ++count;
    }
    std::printf("%d golden vectors recorded on %s\n", count, gpu.c_str());
    return 0;
}

int replay(const std::filesystem::path& folder) {
    std::vector<std::filesystem::path> paths;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        if (entry.path().extension() == kEnding) paths.push_back(entry.path());
    }
    if (paths.empty()) {
        std::printf("no golden vectors\n");
        return 0;
    }
    std::sort(paths.begin(), paths.end());
    int failed = 0;
    std::string gpu;
    for (const auto& path : paths) {
        const golden::Vector vector = golden::read_vector(path.string());
        gpu = vector.gpu;
        const std::string found = golden::difference(vector);
        if (found.empty()) continue;
        std::printf("DIFFERS: %s (%s): %s\n", vector.name.c_str(), vector.instruction.c_str(), found.c_str());
        ++failed;
    }
    std::printf("%zu golden vectors of %zu cases, recorded on %s: %d differ\n", paths.size(), golden::all_cases().size(),
                gpu.c_str(), failed);
    return failed == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    const std::vector<std::string> words(argv + 1, argv + argc);
    try {
        if (words.size() == 1 && words[0] == "list") return list();
        if (words.size() == 2 && words[0] == "replay") return replay(words[1]);
        if ((words.size() == 4 || words.size() == 5) && words[0] == "record") {
            return record(words[1], words[2], words[3], words.size() == 5 ? words[4] : "");
        }
    } catch (const sparsecore::core::Error& error) {
        std::fprintf(stderr, "%s: %s: %s (expected: %s; %s)\n", error.kind.c_str(), error.where.c_str(), error.message.c_str(),
                     error.expected.c_str(), error.hint.c_str());
        return 2;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 2;
    }
    std::fprintf(stderr, "usage: sparsecore_golden record FOLDER DRIVER DATE [CASE] | replay FOLDER | list\n");
    return 2;
}
