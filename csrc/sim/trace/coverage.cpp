#include "sim/trace/coverage.h"

#include <algorithm>
#include <string>

#include "core/error.h"

namespace sparsecore::sim {

namespace {

constexpr int64_t kWordBits = 64;

// Without the instruction, which a portable build may not use, this is faster than the compiler's own.
inline int64_t count_bits(uint64_t x) {
    x -= x >> 1 & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
    return static_cast<int64_t>(((x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu) * 0x0101010101010101u >> 56);
}

// Sets the bits [first, end), first < end, and returns how many of them were not set.
int64_t set_bits(uint64_t* words, int64_t first, int64_t end) {
    int64_t added = 0;
    const int64_t last_word = (end - 1) / kWordBits;
    uint64_t mask = ~uint64_t{0} << (first % kWordBits);
    for (int64_t word = first / kWordBits; word <= last_word; ++word, mask = ~uint64_t{0}) {
        if (word == last_word) mask &= ~uint64_t{0} >> (kWordBits - 1 - (end - 1) % kWordBits);
        const uint64_t missing = mask & ~words[word];
        if (missing == 0) continue;
        words[word] |= missing;
        added += count_bits(missing);
    }
    return added;
}

}  // namespace

Coverage::Coverage(int64_t capacity_bytes) : capacity_(capacity_bytes) {
    if (capacity_bytes < 0 || capacity_bytes > kMostCapacity) {
        throw core::Error("InvalidValueError", "a device of " + std::to_string(capacity_bytes) + " bytes", "",
                          "0 to 2^48 bytes");
    }
    regions_.resize(static_cast<size_t>((capacity_bytes + kRegionBytes - 1) / kRegionBytes));
    memory_ = static_cast<int64_t>(regions_.size() * sizeof(Region));
}

void Coverage::add(int64_t address, int64_t bytes) {
    if (address < 0 || bytes < 0 || address > capacity_ || bytes > capacity_ - address) {
        throw core::Error("InvalidValueError", "a request beyond the device: " + std::to_string(bytes) +
                          " bytes from address " + std::to_string(address), "", "at most " + std::to_string(capacity_));
    }
    for (const int64_t end = address + bytes; address < end;) {
        const int64_t region = address / kRegionBytes, start = region * kRegionBytes;
        const int64_t stop = std::min(end, start + kRegionBytes);
        add_to_region(regions_[static_cast<size_t>(region)], address - start, stop - start);
        address = stop;
    }
}

void Coverage::add_to_region(Region& region, int64_t first, int64_t end) {
    if (region.covered == kRegionBytes) return;
    if (end - first == kRegionBytes) {
        unique_ += kRegionBytes - region.covered;
        region.covered = kRegionBytes;
        drop_pages(region);
        return;
    }
    if (!region.pages) {
        region.pages = std::make_unique<Page[]>(kRegionPages);
        memory_ += kRegionPages * static_cast<int64_t>(sizeof(Page));
    }
    int64_t added = 0;
    while (first < end) {
        Page& page = region.pages[static_cast<size_t>(first / kPageBytes)];
        const int64_t start = first / kPageBytes * kPageBytes, stop = std::min(end, start + kPageBytes);
        if (page.covered < kPageBytes) added += add_to_page(page, first - start, stop - start);
        first = stop;
    }
    unique_ += added;
    region.covered += added;
    if (region.covered == kRegionBytes) drop_pages(region);
}

int64_t Coverage::add_to_page(Page& page, int64_t first, int64_t end) {
    if (end - first == kPageBytes) return fill_page(page);
    const bool fits = (first | end) % kGranule == 0;
    if (!page.bits) {
        page.fine = !fits;
        page.bits = std::make_unique<uint64_t[]>(static_cast<size_t>(bitmap_bytes(page)) / sizeof(uint64_t));
        memory_ += bitmap_bytes(page);
    } else if (!page.fine && !fits) {
        refine(page);
    }
    const int64_t added = page.fine ? set_bits(page.bits.get(), first, end)
                                    : set_bits(page.bits.get(), first / kGranule, end / kGranule) * kGranule;
    page.covered += static_cast<int32_t>(added);
    if (page.covered == kPageBytes) drop_bitmap(page);
    return added;
}

int64_t Coverage::fill_page(Page& page) {
    const int64_t added = kPageBytes - page.covered;
    page.covered = kPageBytes;
    drop_bitmap(page);
    return added;
}

void Coverage::refine(Page& page) {
    auto bits = std::make_unique<uint64_t[]>(kPageBytes / kWordBits);
    for (int64_t granule = 0; granule < kPageBytes / kGranule; ++granule) {
        if ((page.bits[static_cast<size_t>(granule / kWordBits)] >> (granule % kWordBits) & 1) != 0) {
            set_bits(bits.get(), granule * kGranule, (granule + 1) * kGranule);
        }
    }
    memory_ -= bitmap_bytes(page);
    page.bits = std::move(bits);
    page.fine = true;
    memory_ += bitmap_bytes(page);
}

int64_t Coverage::bitmap_bytes(const Page& page) const { return (page.fine ? kPageBytes : kPageBytes / kGranule) / 8; }

void Coverage::drop_bitmap(Page& page) {
    if (page.bits) memory_ -= bitmap_bytes(page);
    page.bits.reset();
}

void Coverage::drop_pages(Region& region) {
    if (!region.pages) return;
    for (int64_t i = 0; i < kRegionPages; ++i) drop_bitmap(region.pages[static_cast<size_t>(i)]);
    region.pages.reset();
    memory_ -= kRegionPages * static_cast<int64_t>(sizeof(Page));
}

}  // namespace sparsecore::sim
