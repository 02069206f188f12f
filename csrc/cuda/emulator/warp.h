// ptx/warp.h on the host.
#pragma once

#include "cuda/emulator/thread.h"

namespace sparsecore::cuda {

namespace emulator {

template <class T>
struct Exchanged {
    T value, result;
};

// Gives every lane the value of lane Source(lane, detail), or its own where there is none.
template <class Source, class T>
T exchange(const char* what, std::uint64_t detail, T value) {
    Exchanged<T> operands{value, value};
    meet(Group::Warp, what, detail, &operands, [](void* const* lanes, std::uint64_t constant) {
        for (int lane = 0; lane < kWarpSize; ++lane) {
            const int from = Source::lane(lane, static_cast<int>(constant));
            if (from < 0 || from >= kWarpSize) continue;
            static_cast<Exchanged<T>*>(lanes[lane])->result = static_cast<Exchanged<T>*>(lanes[from])->value;
        }
    });
    return operands.result;
}

struct FromXor {
    static int lane(int own, int mask) { return own ^ mask; }
};
struct FromBelow {
    static int lane(int own, int delta) { return own - delta; }
};

}  // namespace emulator

template <class T>
T shuffle_xor(T value, int lane_mask) {
    return emulator::exchange<emulator::FromXor>("shfl.bfly", static_cast<std::uint64_t>(lane_mask), value);
}

template <class T>
T shuffle_up(T value, unsigned delta) {
    return emulator::exchange<emulator::FromBelow>("shfl.up", delta, value);
}

// The lanes may ask for different ones.
template <class T>
T shuffle(T value, int lane) {
    struct Asked {
        T value, result;
        int lane;
    } operands{value, value, lane};
    emulator::meet(emulator::Group::Warp, "shfl.idx", 0, &operands, [](void* const* lanes, std::uint64_t) {
        for (int i = 0; i < kWarpSize; ++i) {
            auto* own = static_cast<Asked*>(lanes[i]);
            own->result = static_cast<Asked*>(lanes[own->lane & (kWarpSize - 1)])->value;
        }
    });
    return operands.result;
}

inline std::uint32_t ballot(bool predicate) {
    struct Vote {
        bool mine;
        std::uint32_t all;
    } operands{predicate, 0};
    emulator::meet(emulator::Group::Warp, "vote.ballot", 0, &operands, [](void* const* lanes, std::uint64_t) {
        std::uint32_t all = 0;
        for (int i = 0; i < kWarpSize; ++i) all |= std::uint32_t{static_cast<Vote*>(lanes[i])->mine} << i;
        for (int i = 0; i < kWarpSize; ++i) static_cast<Vote*>(lanes[i])->all = all;
    });
    return operands.all;
}

inline void warp_barrier() {
    emulator::meet(emulator::Group::Warp, "bar.warp.sync", 0, nullptr, [](void* const*, std::uint64_t) {});
}

// Fibers never run at the same time.
template <class T>
T atomic_add(T* where, T value) {
    const T old = *where;
    *where = static_cast<T>(old + value);
    return old;
}
inline std::uint32_t atomic_or(std::uint32_t* where, std::uint32_t bits) {
    const std::uint32_t old = *where;
    *where = old | bits;
    return old;
}
inline std::uint32_t atomic_max(std::uint32_t* where, std::uint32_t value) {
    const std::uint32_t old = *where;
    *where = old < value ? value : old;
    return old;
}

}  // namespace sparsecore::cuda
