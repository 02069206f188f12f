// How many different bytes a stream of requests asked for: exact, in bounded memory.
//
// The address space is cut into regions of 256 MiB with pages of 64 KiB. A page that was asked for in part has a
// bitmap, of one bit per 16 bytes until a request does not fit these granules, then of one bit per byte. Pages and
// regions wholly covered are only flags, so that a sequential stream holds one bitmap at a time.
//
// Memory: at most 8 KiB per page touched in part (an eighth of its bytes; 512 bytes while all requests fit granules of
// 16), 64 KiB of page table per region touched in part, 16 bytes per region of the device.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace sparsecore::sim {

class Coverage {
public:
    static constexpr int64_t kPageBytes = int64_t{1} << 16;
    static constexpr int64_t kRegionPages = int64_t{1} << 12;
    static constexpr int64_t kRegionBytes = kPageBytes * kRegionPages;
    static constexpr int64_t kGranule = 16;
    static constexpr int64_t kMostCapacity = int64_t{1} << 48;

    // "InvalidValueError": a capacity below 0 or above kMostCapacity.
    explicit Coverage(int64_t capacity_bytes);

    // Marks [address, address + bytes). "InvalidValueError": not inside the capacity.
    void add(int64_t address, int64_t bytes);

    int64_t unique_bytes() const { return unique_; }
    int64_t memory_bytes() const { return memory_; }  // tables and bitmaps

private:
    struct Page {
        std::unique_ptr<uint64_t[]> bits;  // none: nothing is covered, or all
        int32_t covered = 0;               // bytes
        bool fine = false;                 // one bit per byte
    };
    struct Region {
        std::unique_ptr<Page[]> pages;  // none: nothing is covered, or all
        int64_t covered = 0;            // bytes
    };

    void add_to_region(Region& region, int64_t first, int64_t end);
    int64_t add_to_page(Page& page, int64_t first, int64_t end);
    int64_t fill_page(Page& page);
    void refine(Page& page);
    void drop_bitmap(Page& page);
    void drop_pages(Region& region);
    int64_t bitmap_bytes(const Page& page) const;

    int64_t capacity_ = 0, unique_ = 0, memory_ = 0;
    std::vector<Region> regions_;
};

}  // namespace sparsecore::sim
