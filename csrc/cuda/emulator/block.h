// A block of threads on the host: what they wait for, and the work that runs beside them. Used by the emulated instructions.
//
// A fiber runs until it waits: at a meeting of its warp, warpgroup or block, or for the phase of a barrier in shared
// memory. It goes on when the counter that it waits for has moved. Asynchronous copies are queued; a lazy one takes effect only
// once nobody can go on without it, which is as late as hardware may be.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "cuda/emulator/launch.h"

namespace sparsecore::cuda::emulator {

using Work = std::function<void()>;

// Asynchronous work in groups that are waited for in order: the copies of a thread, the products of a warpgroup.
class Pending {
public:
    void add(Work work);        // eager work is done here
    void commit();              // closes the group of what was added since
    void wait(std::size_t most);  // does the oldest groups until at most so many are left

private:
    std::vector<Work> open_;
    std::deque<std::vector<Work>> groups_;
};

// What a barrier in shared memory holds. `phases` counts those that have ended.
struct PhaseBarrier {
    int arrivals = 0, missing = 0, bytes = 0;
    std::uint64_t phases = 0;
    bool of_cluster = false;  // threads of other blocks have arrived

    void advance(int arrived, int announced_bytes);
};

// A group of threads that meet: the last one to come does the work for all.
enum class Group { Warp, Warpgroup, Block };

// Every thread of the caller's group brings its operands, and all the same instruction: `what` with `detail`. `work` gets the
// operands in the order of the threads. Faults where threads of a group meet in different instructions.
void meet(Group group, const char* what, std::uint64_t detail, void* operands, void (*work)(void* const* threads, std::uint64_t detail));

// Changes how many registers the thread has, of those that the block began with: an even share of the SM's for every thread. Waits
// until others have given back what is missing.
void keep_registers(int count);

// Meets `threads` threads at the block's barrier `id`.
void meet_at_barrier(int id, unsigned threads);

// Meets all threads of the cluster.
void meet_in_cluster();

// Where the block of this rank in the cluster has what lies at `shared` in the caller's. Faults where it has ended.
void* in_block(const void* shared, unsigned rank);

// Meets all threads of the block at barrier 0; whether the predicate is true of any.
bool vote_at_barrier(bool predicate);

// Waits while *counter is `value`; `what` names the instruction if that never changes.
void wait_while(const std::uint64_t* counter, std::uint64_t value, const char* what);

// Queues a copy that lands at once (eager) or when no thread can go on without it (lazy), in the order of issue.
void land_later(Work work);

// Shared memory as asynchronous copies and products see it (the ISA's async proxy): what they wrote themselves, and what ordinary
// code had written at the last show_async. Faults outside the shared memory of the cluster's blocks.
unsigned char* async_view(const void* shared, std::size_t bytes);
const unsigned char* async_read(const void* shared, std::size_t bytes);  // faults where ordinary code has written there since
void show_async();

// Says what a GPU would leave undefined: throws std::runtime_error with the place in the grid.
[[noreturn]] void fault(const std::string& what);
void require_aligned(const void* address, std::size_t multiple, const char* what);

// Of the calling thread, its block and its warpgroup.
unsigned thread_index();
Pending& copies_of_thread();
Pending& products_of_warpgroup();
PhaseBarrier& phase_barrier(const void* address);  // created by init_mbarrier
void create_phase_barrier(const void* address, int arrivals);
void* shared_bytes(std::size_t bytes);  // faults unless the launch asked for exactly so many
const Dim3& block_place();
unsigned rank_in_cluster();
const Launch& launch_shape();

}  // namespace sparsecore::cuda::emulator
