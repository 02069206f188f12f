#include "cuda/emulator/block.h"

#include <ucontext.h>

#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <new>
#include <stdexcept>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace sparsecore::cuda::emulator {

namespace {

constexpr unsigned kWarp = 32, kWarpgroup = 128, kBarriers = 16, kMaxThreads = 1024, kMaxCluster = 8;
constexpr unsigned kRegisters = 65536, kRegisterUnit = 8;  // of an SM; a thread has a multiple of the unit
constexpr std::size_t kStackBytes = 128 * 1024, kSharedAlignment = 1024;

struct Fiber {
    ucontext_t context{};
    char* stack = nullptr;
    bool done = true;
    const std::uint64_t* counter = nullptr;  // waits while it has the value; null: can run
    std::uint64_t value = 0;
    const char* waits_for = "";
    Pending copies;
    int registers = 0;

    bool can_run() const { return !done && (counter == nullptr || *counter != value); }
};

// Stacks serve one launch after another: to make them takes longer than a small launch.
char* stack_of(std::size_t thread) {
    thread_local std::vector<std::unique_ptr<char[]>> stacks;
    while (stacks.size() <= thread) stacks.emplace_back(new char[kStackBytes]);
    return stacks[thread].get();
}

struct Meeting {
    std::vector<void*> operands;
    unsigned arrived = 0;
    std::uint64_t rounds = 0, detail = 0;
    const char* what = "";
};

struct Barrier {
    unsigned arrived = 0, threads = 0;
    std::uint64_t rounds = 0;
};

// The votes at barrier 0 in its round `round`.
struct Vote {
    std::uint64_t round = 0;
    bool any = false;
};

struct FreeAligned {
    void operator()(unsigned char* bytes) const { ::operator delete(bytes, std::align_val_t(kSharedAlignment)); }
};

struct Block {
    Dim3 place;
    std::vector<Meeting> warps, warpgroups;
    std::vector<Pending> products;
    Barrier barriers[kBarriers];
    Vote votes[2];  // of even and odd rounds: threads may be one apart
    std::unique_ptr<unsigned char, FreeAligned> shared;
    std::vector<unsigned char> async_shared;  // empty until the block's first use of it
    unsigned live = 0;
    int free_registers = 0;  // given back by threads of the block
    std::uint64_t gifts = 0;
};

// All of one launch; clusters of blocks, most often of one, follow each other in it. The fibers are those of the blocks one after another.
struct Machine {
    Launch shape;
    Schedule schedule;
    const Work* kernel = nullptr;
    std::vector<Fiber> fibers;
    std::vector<Block> blocks;  // of the cluster
    Barrier cluster_barrier;
    std::map<const void*, PhaseBarrier> phase_barriers;
    std::deque<Work> landing;
    unsigned current = 0, live = 0;
    ucontext_t scheduler{};
    std::exception_ptr failure;
    const void* scheduler_stack = nullptr;
    std::size_t scheduler_stack_bytes = 0;
};

thread_local Machine* machine = nullptr;

// Of the fiber that runs.
Block& own_block() { return machine->blocks[machine->current / machine->shape.threads]; }
unsigned own_thread() { return machine->current % machine->shape.threads; }

std::uintptr_t offset_in(const Block& block, const void* shared) {
    return reinterpret_cast<std::uintptr_t>(shared) - reinterpret_cast<std::uintptr_t>(block.shared.get());
}

// The sanitizer must be told which stack is in use, or it takes a switch for an overflow.
void begin_switch([[maybe_unused]] void** saved, [[maybe_unused]] const void* stack, [[maybe_unused]] std::size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(saved, stack, bytes);
#endif
}

void end_switch([[maybe_unused]] void* saved, [[maybe_unused]] const void** stack, [[maybe_unused]] std::size_t* bytes) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(saved, stack, bytes);
#endif
}

void yield_to_scheduler() {
    Machine& m = *machine;
    void* saved = nullptr;
    begin_switch(&saved, m.scheduler_stack, m.scheduler_stack_bytes);
    swapcontext(&m.fibers[m.current].context, &m.scheduler);
    end_switch(saved, nullptr, nullptr);
}

void fiber_main() {
    Machine& m = *machine;
    end_switch(nullptr, &m.scheduler_stack, &m.scheduler_stack_bytes);
    try {
        (*m.kernel)();
    } catch (...) {  // carried over to the scheduler's stack, which throws it again
        m.failure = std::current_exception();
    }
    m.fibers[m.current].done = true;
    --m.live;
    --own_block().live;
    begin_switch(nullptr, m.scheduler_stack, m.scheduler_stack_bytes);
    setcontext(&m.scheduler);
}

void resume(unsigned thread) {
    Machine& m = *machine;
    Fiber& fiber = m.fibers[thread];
    m.current = thread;
    fiber.counter = nullptr;
    void* saved = nullptr;
    begin_switch(&saved, fiber.stack, kStackBytes);
    swapcontext(&m.scheduler, &fiber.context);
    end_switch(saved, nullptr, nullptr);
    if (m.failure) std::rethrow_exception(m.failure);
}

// Resumes every thread of the range that can run, once; says whether there was one.
bool pass(unsigned first, unsigned end) {
    bool any = false;
    for (unsigned thread = first; thread < end; ++thread) {
        if (!machine->fibers[thread].can_run()) continue;
        any = true;
        resume(thread);
    }
    return any;
}

bool run_all_once() {
    const auto threads = static_cast<unsigned>(machine->fibers.size());
    const unsigned warps = threads / kWarp;
    const Order order = machine->schedule.order;
    if (order == Order::RoundRobin) return pass(0, threads);
    // A warp gets as far as it can; then the first that can go on has its turn again, and others fall behind as far as they may.
    bool any = false;
    for (unsigned turn = 0; turn < warps;) {
        const unsigned first = (order == Order::FirstWarp ? turn : warps - 1 - turn) * kWarp;
        bool ran = false;
        while (pass(first, first + kWarp)) ran = true;
        any = any || ran;
        turn = ran ? 0 : turn + 1;
    }
    return any;
}

[[noreturn]] void report_deadlock() {
    Machine& m = *machine;
    for (unsigned thread = 0; thread < m.fibers.size(); ++thread) {
        if (m.fibers[thread].done) continue;
        m.current = thread;
        fault(std::string("waits at ") + m.fibers[thread].waits_for + " for threads that never get there (" +
              std::to_string(m.live) + " of " + std::to_string(m.fibers.size()) + " threads wait)");
    }
    throw std::logic_error("emulator: no thread is left");
}

void start_block(Block& block) {
    const unsigned threads = machine->shape.threads;
    block.warps.assign(threads / kWarp, {});
    block.warpgroups.assign((threads + kWarpgroup - 1) / kWarpgroup, {});
    block.products.assign(block.warpgroups.size(), {});
    for (Barrier& barrier : block.barriers) barrier = {};
    for (Vote& vote : block.votes) vote = {};
    block.async_shared.clear();
    block.live = threads;
    block.free_registers = 0;
    if (machine->shape.shared_bytes > 0) std::memset(block.shared.get(), 0xff, machine->shape.shared_bytes);
}

void start_cluster() {
    Machine& m = *machine;
    const unsigned threads = m.shape.threads;
    for (Block& block : m.blocks) start_block(block);
    m.cluster_barrier = {};
    m.phase_barriers.clear();
    m.landing.clear();
    m.live = static_cast<unsigned>(m.fibers.size());
    for (Fiber& fiber : m.fibers) {
        fiber.done = false;
        fiber.counter = nullptr;
        fiber.copies = {};
        fiber.registers = static_cast<int>(kRegisters / threads / kRegisterUnit * kRegisterUnit);
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack;
        fiber.context.uc_stack.ss_size = kStackBytes;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, fiber_main, 0);
    }
}

void run_cluster() {
    start_cluster();
    Machine& m = *machine;
    while (m.live > 0) {
        if (run_all_once()) continue;
        if (m.landing.empty()) report_deadlock();
        const Work work = std::move(m.landing.front());
        m.landing.pop_front();
        work();
    }
}

Meeting& meeting_of(Group group, unsigned& place, unsigned& size) {
    const unsigned wanted = group == Group::Warp ? kWarp : kWarpgroup, index = own_thread() / wanted;
    place = own_thread() % wanted;
    size = wanted;
    if ((index + 1) * wanted > machine->shape.threads) fault("an instruction of a warpgroup outside a whole one");
    return group == Group::Warp ? own_block().warps[index] : own_block().warpgroups[index];
}

void arrive_and_wait(Barrier& barrier, unsigned threads) {
    if (barrier.arrived > 0 && barrier.threads != threads) fault("threads disagree on how many meet at a barrier");
    barrier.threads = threads;
    if (++barrier.arrived < threads) return wait_while(&barrier.rounds, barrier.rounds, "a barrier");
    barrier.arrived = 0;
    ++barrier.rounds;
}

void run_grid() {
    Machine& m = *machine;
    for (unsigned z = 0; z < m.shape.grid.z; ++z) {
        for (unsigned y = 0; y < m.shape.grid.y; ++y) {
            for (unsigned x = 0; x < m.shape.grid.x; x += m.shape.cluster) {
                for (unsigned rank = 0; rank < m.shape.cluster; ++rank) m.blocks[rank].place = {x + rank, y, z};
                run_cluster();
            }
        }
    }
}

}  // namespace

void Pending::add(Work work) {
    if (machine->schedule.async == Async::Eager) return work();
    open_.push_back(std::move(work));
}

void Pending::commit() {
    groups_.push_back(std::move(open_));
    open_.clear();
}

void Pending::wait(std::size_t most) {
    while (groups_.size() > most) {
        for (const Work& work : groups_.front()) work();
        groups_.pop_front();
    }
}

void PhaseBarrier::advance(int arrived, int announced_bytes) {
    missing -= arrived;
    bytes += announced_bytes;
    if (missing < 0) fault("more arrivals at an mbarrier than its phase has");
    if (missing == 0 && bytes == 0) {
        missing = arrivals;
        ++phases;
    }
}

void meet(Group group, const char* what, std::uint64_t detail, void* operands, void (*work)(void* const* threads, std::uint64_t detail)) {
    unsigned place = 0, size = 0;
    Meeting& meeting = meeting_of(group, place, size);
    if (meeting.arrived == 0) {
        meeting.operands.assign(size, nullptr);
        meeting.what = what;
        meeting.detail = detail;
    } else if (std::strcmp(meeting.what, what) != 0 || meeting.detail != detail) {
        fault(std::string("meets ") + what + " while its group is in " + meeting.what + ", or with other constants");
    }
    meeting.operands[place] = operands;
    if (++meeting.arrived < size) return wait_while(&meeting.rounds, meeting.rounds, what);
    meeting.arrived = 0;
    work(meeting.operands.data(), detail);
    ++meeting.rounds;
}

void meet_at_barrier(int id, unsigned threads) {
    if (id < 0 || id >= static_cast<int>(kBarriers)) fault("a barrier id outside 0 to 15");
    if (threads % kWarp != 0 || threads == 0 || threads > machine->shape.threads) {
        fault("a barrier of " + std::to_string(threads) + " threads");
    }
    arrive_and_wait(own_block().barriers[id], threads);
}

void meet_in_cluster() { arrive_and_wait(machine->cluster_barrier, static_cast<unsigned>(machine->fibers.size())); }

bool vote_at_barrier(bool predicate) {
    Block& block = own_block();
    const std::uint64_t round = block.barriers[0].rounds;
    Vote& vote = block.votes[round % 2];
    if (vote.round != round) vote = {round, false};
    vote.any |= predicate;
    meet_at_barrier(0, machine->shape.threads);
    return vote.any;
}

void wait_while(const std::uint64_t* counter, std::uint64_t value, const char* what) {
    if (*counter != value) return;
    Fiber& fiber = machine->fibers[machine->current];
    fiber.counter = counter;
    fiber.value = value;
    fiber.waits_for = what;
    yield_to_scheduler();
}

void keep_registers(int count) {
    Fiber& fiber = machine->fibers[machine->current];
    if (count < 24 || count > 256 || count % static_cast<int>(kRegisterUnit) != 0) fault("setmaxnreg of " + std::to_string(count));
    const int more = count - fiber.registers;
    Block& block = own_block();
    while (block.free_registers < more) wait_while(&block.gifts, block.gifts, "setmaxnreg.inc");
    fiber.registers = count;
    block.free_registers -= more;
    ++block.gifts;
}

void land_later(Work work) {
    if (machine->schedule.async == Async::Eager) return work();
    machine->landing.push_back(std::move(work));
}

void fault(const std::string& what) {
    const Dim3& place = own_block().place;
    throw std::runtime_error("emulator: thread " + std::to_string(own_thread()) + " of block (" + std::to_string(place.x) +
                             ", " + std::to_string(place.y) + ", " + std::to_string(place.z) + "): " + what);
}

void require_aligned(const void* address, std::size_t multiple, const char* what) {
    if (reinterpret_cast<std::uintptr_t>(address) % multiple != 0) {
        fault(std::string(what) + ": an address that is not a multiple of " + std::to_string(multiple));
    }
}

unsigned thread_index() { return own_thread(); }
Pending& copies_of_thread() { return machine->fibers[machine->current].copies; }
Pending& products_of_warpgroup() { return own_block().products[own_thread() / kWarpgroup]; }

PhaseBarrier& phase_barrier(const void* address) {
    const auto found = machine->phase_barriers.find(address);
    if (found == machine->phase_barriers.end()) fault("an mbarrier that was not initialised");
    return found->second;
}

void create_phase_barrier(const void* address, int arrivals) {
    require_aligned(address, 8, "mbarrier.init");
    machine->phase_barriers[address] = {arrivals, arrivals, 0, 0};
}

unsigned char* async_view(const void* shared, std::size_t bytes) {
    const std::size_t size = machine->shape.shared_bytes;
    for (Block& block : machine->blocks) {
        const std::uintptr_t offset = offset_in(block, shared);
        if (offset > size || bytes > size - offset) continue;
        if (block.async_shared.empty()) block.async_shared.assign(size, 0xff);
        return block.async_shared.data() + offset;
    }
    fault("a tile outside shared memory");
}

const unsigned char* async_read(const void* shared, std::size_t bytes) {
    const unsigned char* seen = async_view(shared, bytes);
    if (std::memcmp(seen, shared, bytes) != 0) fault("a product reads shared memory that ordinary code has written since, without a fence");
    return seen;
}

void show_async() {
    Block& block = own_block();
    block.async_shared.assign(block.shared.get(), block.shared.get() + machine->shape.shared_bytes);
}

void* in_block(const void* shared, unsigned rank) {
    if (rank >= machine->blocks.size()) fault("a block of rank " + std::to_string(rank) + " in a cluster of " + std::to_string(machine->blocks.size()));
    const std::uintptr_t offset = offset_in(own_block(), shared);
    if (offset >= machine->shape.shared_bytes) fault("an address of another block outside shared memory");
    if (machine->blocks[rank].live == 0) fault("shared memory of a block that has ended");
    return machine->blocks[rank].shared.get() + offset;
}

void* shared_bytes(std::size_t bytes) {
    if (bytes != machine->shape.shared_bytes) {
        fault("the kernel uses " + std::to_string(bytes) + " bytes of shared memory, the launch gave " +
              std::to_string(machine->shape.shared_bytes));
    }
    return own_block().shared.get();
}

const Dim3& block_place() { return own_block().place; }
unsigned rank_in_cluster() { return machine->current / machine->shape.threads; }
const Launch& launch_shape() { return machine->shape; }

void launch(const Launch& shape, Schedule schedule, const Work& kernel) {
    if (shape.threads == 0 || shape.threads % kWarp != 0 || shape.threads > kMaxThreads) {
        throw std::runtime_error("emulator: a block of " + std::to_string(shape.threads) + " threads");
    }
    if (shape.cluster == 0 || shape.cluster > kMaxCluster || shape.grid.x % shape.cluster != 0) {
        throw std::runtime_error("emulator: clusters of " + std::to_string(shape.cluster) + " in a grid of " + std::to_string(shape.grid.x));
    }
    Machine instance;
    instance.shape = shape;
    instance.schedule = schedule;
    instance.kernel = &kernel;
    instance.fibers.resize(std::size_t{shape.threads} * shape.cluster);
    for (std::size_t i = 0; i < instance.fibers.size(); ++i) instance.fibers[i].stack = stack_of(i);
    instance.blocks.resize(shape.cluster);
    for (Block& block : instance.blocks) {
        if (shape.shared_bytes == 0) break;
        void* bytes = ::operator new(shape.shared_bytes, std::align_val_t(kSharedAlignment));
        block.shared.reset(static_cast<unsigned char*>(bytes));
    }
    machine = &instance;
    try {
        run_grid();
    } catch (...) {
        machine = nullptr;
        throw;
    }
    machine = nullptr;
}

}  // namespace sparsecore::cuda::emulator
