// sparsecore_tests [name part] ; SPARSECORE_TEST_SEED repeats a run, SPARSECORE_TEST_SHARD=1/2 takes every second test,
// SPARSECORE_TEST_FIRST ends at the first failure.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>

#include "harness.h"

namespace harness {

namespace {
bool failed = false;
}

std::vector<Case>& cases() {
    static std::vector<Case> list;
    return list;
}

std::mt19937_64& random() {
    static std::mt19937_64 engine;
    return engine;
}

void fail(const char* file, int line, const std::string& what) {
    failed = true;
    std::printf("  %s:%d: %s\n", file, line, what.c_str());
    if (std::getenv("SPARSECORE_TEST_FIRST") != nullptr) {
        std::fflush(stdout);
        std::_Exit(1);
    }
}

}  // namespace harness

int main(int argc, char** argv) {
    const char* given = std::getenv("SPARSECORE_TEST_SEED");
    const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
    std::printf("SPARSECORE_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
    int shard = 0, shards = 1;
    if (const char* part = std::getenv("SPARSECORE_TEST_SHARD")) std::sscanf(part, "%d/%d", &shard, &shards);
    int failures = 0, run = 0, number = 0;
    for (const harness::Case& test : harness::cases()) {
        if (argc > 1 && std::strstr(test.name, argv[1]) == nullptr) continue;
        if (number++ % shards != shard % shards) continue;
        harness::failed = false;
        harness::random().seed(seed);
        ++run;
        try {
            test.body();
        } catch (const std::exception& error) {
            harness::fail(test.name, 0, std::string("uncaught: ") + error.what());
        }
        if (harness::failed) {
            ++failures;
            std::printf("FAILED %s\n", test.name);
        }
    }
    std::printf("%d of %d tests passed\n", run - failures, run);
    return failures == 0 && run > 0 ? 0 : 1;
}
