// This executable loads no OpenMP runtime, so parallel_for runs on its own pool; a thread sanitizer sees all of it.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "core/parallel.h"
#include "harness.h"

using namespace sparsecore::core;

TEST(the_own_pool_is_used_without_openmp) { CHECK(std::string(thread_runtime()) == "std"); }

TEST(parallel_for_covers_every_item_once) {
    for (int64_t count : {0, 1, 2, 7, 64, 1001}) {
        for (int threads : {1, 2, 3, 8}) {
            for (int64_t grain : {0, 1, 5, 1000}) {
                std::vector<std::atomic<int>> hits(static_cast<size_t>(count));
                parallel_for(10, 10 + count, grain, threads, [&](int64_t begin, int64_t end) {
                    CHECK(begin < end);
                    for (int64_t i = begin; i < end; ++i) hits[static_cast<size_t>(i - 10)]++;
                });
                for (const auto& hit : hits) CHECK(hit == 1);
            }
        }
    }
}

TEST(parallel_for_carries_exceptions_out) {
    for (int threads : {1, 4}) {
        bool caught = false;
        try {
            parallel_for(0, 100, 1, threads, [](int64_t begin, int64_t) {
                if (begin == 0) throw std::runtime_error("first range");
            });
        } catch (const std::runtime_error& error) {
            caught = std::string(error.what()) == "first range";
        }
        CHECK(caught);
    }
    std::atomic<int> sum{0};  // the pool still works
    parallel_for(0, 4, 1, 4, [&](int64_t begin, int64_t end) { sum += static_cast<int>(end - begin); });
    CHECK(sum == 4);
}

TEST(parallel_for_nests_on_the_calling_thread) {
    std::atomic<int64_t> sum{0};
    parallel_for(0, 8, 1, 4, [&](int64_t begin, int64_t end) {
        const auto self = std::this_thread::get_id();
        parallel_for(0, 10, 1, 4, [&](int64_t first, int64_t last) {
            CHECK(std::this_thread::get_id() == self);
            sum += (last - first) * (end - begin);
        });
    });
    CHECK(sum == 80);
}

TEST(parallel_for_serves_several_callers) {
    std::vector<std::thread> callers;
    std::atomic<int64_t> sum{0};
    for (int i = 0; i < 6; ++i) {
        callers.emplace_back([&sum] {
            for (int round = 0; round < 50; ++round) {
                parallel_for(0, 100, 1, 4, [&](int64_t begin, int64_t end) { sum += end - begin; });
            }
        });
    }
    for (std::thread& caller : callers) caller.join();
    CHECK(sum == 6 * 50 * 100);
}

#if !defined(__SANITIZE_THREAD__)  // the thread sanitizer refuses threads in a forked child
TEST(parallel_for_works_after_fork) {
    parallel_for(0, 8, 1, 4, [](int64_t, int64_t) {});
    const pid_t child = fork();
    if (child == 0) {
        std::atomic<int> sum{0};
        parallel_for(0, 100, 1, 4, [&](int64_t begin, int64_t end) { sum += static_cast<int>(end - begin); });
        _exit(sum == 100 ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
#endif
