// Nothing here links OpenMP: a second runtime in the process would bring a second set of threads that fight the
// first for the same cores. Instead the runtime that torch has loaded is looked up and entered through the same
// symbols that a compiler emits: GOMP_parallel (GNU) or __kmpc_fork_call (Intel and LLVM).
#include "core/parallel.h"

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <string>
#include <thread>

namespace sparsecore::core {

namespace {

thread_local bool inside_region = false;

// The ranges of one call. Every thread of the team drains it, so a team smaller than asked for is no error.
class Task {
public:
    Task(int64_t begin, int64_t end, int parts, RangeFunction function, void* context)
        : begin_(begin), count_(end - begin), parts_(parts), function_(function), context_(context) {}

    void drain() {
        const bool outer = inside_region;
        inside_region = true;
        for (;;) {
            const int64_t part = next_.fetch_add(1, std::memory_order_relaxed);
            if (part >= parts_ || failed_.load(std::memory_order_relaxed)) break;
            try {
                function_(context_, bound(part), bound(part + 1));
            } catch (...) {
                const std::lock_guard<std::mutex> lock(mutex_);
                if (!error_) error_ = std::current_exception();
                failed_.store(true, std::memory_order_relaxed);
            }
        }
        inside_region = outer;
    }

    void rethrow() {
        if (error_) std::rethrow_exception(error_);
    }

private:
    // The first `count_ % parts_` ranges are one longer; no product, so nothing can overflow.
    int64_t bound(int64_t part) const {
        return begin_ + part * (count_ / parts_) + std::min<int64_t>(part, count_ % parts_);
    }

    const int64_t begin_, count_;
    const int parts_;
    const RangeFunction function_;
    void* const context_;
    std::atomic<int64_t> next_{0};
    std::atomic<bool> failed_{false};
    std::mutex mutex_;
    std::exception_ptr error_;
};

void drain_task(void* task) { static_cast<Task*>(task)->drain(); }

// ---- the own pool: blocking threads, started on demand, shared by all callers

class Pool {
public:
    void run(Task& task, int threads) {
        Job job{&task, threads - 1, 0};
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            for (; started_ < threads - 1; ++started_) std::thread([this] { work(); }).detach();
            jobs_.push_back(&job);
        }
        wake_.notify_all();
        task.drain();
        std::unique_lock<std::mutex> lock(mutex_);
        jobs_.erase(std::remove(jobs_.begin(), jobs_.end(), &job), jobs_.end());
        done_.wait(lock, [&job] { return job.active == 0; });
    }

private:
    struct Job {
        Task* task;
        int wanted, active;
    };

    void work() {
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            wake_.wait(lock, [this] { return !jobs_.empty(); });
            Job* job = jobs_.front();
            if (--job->wanted == 0) jobs_.pop_front();
            ++job->active;
            lock.unlock();
            job->task->drain();
            lock.lock();
            if (--job->active == 0) done_.notify_all();
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_, done_;
    std::deque<Job*> jobs_;
    int started_ = 0;
};

std::atomic<Pool*> current_pool{nullptr};

// Never freed: its threads are detached and may outlive the destruction of statics.
Pool& pool() {
    Pool* existing = current_pool.load(std::memory_order_acquire);
    if (existing != nullptr) return *existing;
    Pool* fresh = new Pool();
    if (current_pool.compare_exchange_strong(existing, fresh, std::memory_order_acq_rel)) return *fresh;
    delete fresh;
    return *existing;
}

// ---- OpenMP runtimes

using GompParallel = void (*)(void (*)(void*), void*, unsigned, unsigned);
using KmpcMicro = void (*)(int32_t*, int32_t*, ...);
using KmpcForkCall = void (*)(void*, int32_t, KmpcMicro, ...);
using KmpcThreadNumber = int32_t (*)(void*);
using KmpcPushThreads = void (*)(void*, int32_t, int32_t);

struct Runtime {
    GompParallel gomp = nullptr;
    KmpcForkCall kmpc_fork = nullptr;
    KmpcThreadNumber kmpc_thread = nullptr;
    KmpcPushThreads kmpc_push = nullptr;
};

// The layout of ident_t, which the kmpc entry points take as the place in the source.
struct KmpcIdent {
    int32_t reserved_1, flags, reserved_2, reserved_3;
    const char* source;
};
KmpcIdent kmpc_ident{0, 2, 0, 0, ";sparsecore;parallel_for;0;0;;"};

std::atomic<const Runtime*> found_runtime{nullptr};
std::atomic<unsigned long long> scanned_loads{0};
std::atomic<bool> std_forced{false}, forked{false};

bool read_symbols(void* handle, Runtime& runtime) {
    runtime.kmpc_fork = reinterpret_cast<KmpcForkCall>(dlsym(handle, "__kmpc_fork_call"));
    runtime.kmpc_thread = reinterpret_cast<KmpcThreadNumber>(dlsym(handle, "__kmpc_global_thread_num"));
    runtime.kmpc_push = reinterpret_cast<KmpcPushThreads>(dlsym(handle, "__kmpc_push_num_threads"));
    if (!runtime.kmpc_fork || !runtime.kmpc_thread || !runtime.kmpc_push) runtime.kmpc_fork = nullptr;
    runtime.gomp = reinterpret_cast<GompParallel>(dlsym(handle, "GOMP_parallel"));
    return runtime.kmpc_fork || runtime.gomp;
}

struct Search {
    std::string torch, openmp;
};

int visit_library(dl_phdr_info* info, size_t, void* data) {
    auto* search = static_cast<Search*>(data);
    const char* path = info->dlpi_name;
    const char* slash = std::strrchr(path, '/');
    const char* name = slash ? slash + 1 : path;
    if (std::strncmp(name, "libtorch_cpu.so", 15) == 0) search->torch = path;
    for (const char* prefix : {"libgomp", "libiomp5", "libomp"}) {
        if (std::strncmp(name, prefix, std::strlen(prefix)) == 0) search->openmp = path;
    }
    return 0;
}

// A lookup through libtorch_cpu searches its dependencies, so it finds torch's own runtime under whatever name the
// wheel gave it; without torch any loaded runtime will do.
const Runtime* search_runtime() {
    Search search;
    dl_iterate_phdr(visit_library, &search);
    for (const std::string& path : {search.torch, search.openmp}) {
        if (path.empty()) continue;
        void* handle = dlopen(path.c_str(), RTLD_LAZY | RTLD_NOLOAD);
        if (handle == nullptr) continue;
        Runtime runtime;
        if (read_symbols(handle, runtime)) return new Runtime(runtime);  // kept, with its handle, for good
        dlclose(handle);
    }
    return nullptr;
}

int read_loads(dl_phdr_info* info, size_t, void* data) {
    *static_cast<unsigned long long*>(data) = info->dlpi_adds;
    return 1;
}

const Runtime* runtime_in_use() {
    if (std_forced.load(std::memory_order_relaxed)) return nullptr;
    const Runtime* runtime = found_runtime.load(std::memory_order_acquire);
    if (runtime == nullptr) {
        // torch may be imported later, so look again whenever a library was loaded since the last look
        unsigned long long loads = 0;
        dl_iterate_phdr(read_loads, &loads);
        if (loads == scanned_loads.load(std::memory_order_relaxed)) return nullptr;
        runtime = search_runtime();
        found_runtime.store(runtime, std::memory_order_release);
        scanned_loads.store(loads, std::memory_order_relaxed);
    }
    // A forked child has none of the parent's threads, and GNU's runtime waits for them forever.
    if (runtime != nullptr && !runtime->kmpc_fork && forked.load(std::memory_order_relaxed)) return nullptr;
    return runtime;
}

void kmpc_micro(int32_t*, int32_t*, void* task) { drain_task(task); }

void after_fork_in_child() {
    current_pool.store(nullptr, std::memory_order_release);  // the parent's pool: its threads are not here
    forked.store(true, std::memory_order_relaxed);
}

const int fork_handler = pthread_atfork(nullptr, nullptr, after_fork_in_child);

}  // namespace

void parallel_ranges(int64_t begin, int64_t end, int64_t grain, int threads, RangeFunction function, void* context) {
    if (begin >= end) return;
    grain = std::max<int64_t>(grain, 1);
    const int64_t most = (end - begin - 1) / grain + 1;
    const int parts = static_cast<int>(std::min<int64_t>(std::max(threads, 1), most));
    if (parts == 1 || inside_region) {
        function(context, begin, end);
        return;
    }
    Task task(begin, end, parts, function, context);
    const Runtime* runtime = runtime_in_use();
    if (runtime == nullptr) {
        pool().run(task, parts);
    } else if (runtime->kmpc_fork) {
        runtime->kmpc_push(&kmpc_ident, runtime->kmpc_thread(&kmpc_ident), parts);
        runtime->kmpc_fork(&kmpc_ident, 1, reinterpret_cast<KmpcMicro>(&kmpc_micro), &task);
    } else {
        runtime->gomp(drain_task, &task, static_cast<unsigned>(parts), 0);
    }
    task.rethrow();
}

const char* thread_runtime() {
    (void)fork_handler;
    const Runtime* runtime = runtime_in_use();
    if (runtime == nullptr) return "std";
    return runtime->kmpc_fork ? "kmpc" : "gomp";
}

void force_std_threads(bool force) { std_forced.store(force, std::memory_order_relaxed); }

}  // namespace sparsecore::core
