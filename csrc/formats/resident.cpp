#include "formats/resident.h"

#include <cstddef>
#include <cstring>
#include <type_traits>

#include "core/buffer.h"
#include "core/checked.h"
#include "core/error.h"

namespace sparsecore::formats {

using core::Error;
using core::kAlignment;
using core::Span;

namespace {

constexpr uint32_t kMagic = 0x52435053;  // "SPCR"
constexpr uint32_t kVersion = 1;

// Plain data in the byte order of the machine: it never leaves it.
struct Header {
    uint32_t magic, version, kind, layout, isa, dtype, codes, section_count;
    int64_t rows, cols, p0, p1, kept, total_bytes;
    int64_t offsets[kMaxSections], bytes[kMaxSections];
    uint64_t checksum;  // FNV-1a of all words before it
    uint64_t padding[5];
};
static_assert(std::is_trivially_copyable_v<Header> && sizeof(Header) % kAlignment == 0);

uint64_t checksum(const Header& header) {
    uint64_t hash = 14695981039346656037ull;
    uint64_t words[offsetof(Header, checksum) / 8];
    std::memcpy(words, &header, sizeof(words));
    for (uint64_t word : words) hash = (hash ^ word) * 1099511628211ull;
    return hash;
}

[[noreturn]] void damaged(const std::string& what, const std::string& expected) {
    throw Error("ResidentError", "not a usable resident weight: " + what, "resident", expected,
                "make it again from the stored form");
}

void check_buffer(const Span& span) {
    require_dtype(span, "resident", core::DType::U8);
    require_shape(span, "resident", {-1});
    require_contiguous(span, "resident");
    if (reinterpret_cast<uintptr_t>(span.data) % kAlignment != 0) {
        throw Error("SpanError", "misaligned pointer", "resident", "a multiple of 64 bytes");
    }
}

int64_t align(int64_t bytes) { return core::round_up(bytes, kAlignment, "resident weight"); }

Resident view(const Header& header, const Span& span) {
    Resident resident;
    resident.geometry = {static_cast<Kind>(header.kind), static_cast<core::DType>(header.dtype), header.rows,
                         header.cols, header.p0, header.p1, header.kept, header.codes != 0};
    resident.layout = header.layout;
    resident.isa = static_cast<core::Isa>(header.isa);
    resident.section_count = static_cast<int>(header.section_count);
    resident.total_bytes = header.total_bytes;
    for (uint32_t i = 0; i < header.section_count; ++i) {
        resident.section_bytes[i] = header.bytes[i];
        resident.sections[i] = span.as<uint8_t>() + header.offsets[i];
    }
    return resident;
}

}  // namespace

int64_t resident_bytes(const Sections& sections) {
    int64_t total = sizeof(Header);
    for (int i = 0; i < sections.count; ++i) total = core::checked_add(total, align(sections.bytes[i]), "resident");
    return total;
}

int64_t section_start(const Sections& sections, int index) {
    Sections before = sections;
    before.count = index;
    return resident_bytes(before);
}

Resident create_resident(const Span& out, const Geometry& geometry, uint32_t layout, core::Isa isa,
                         const Sections& sections) {
    check_buffer(out);
    const int64_t total = resident_bytes(sections);
    if (out.shape[0] != total) {
        throw Error("SpanError", "wrong number of bytes: " + std::to_string(out.shape[0]), "out",
                    std::to_string(total));
    }
    std::memset(out.data, 0, static_cast<size_t>(total));
    Header header{};
    header.magic = kMagic;
    header.version = kVersion;
    header.kind = static_cast<uint32_t>(geometry.kind);
    header.layout = layout;
    header.isa = static_cast<uint32_t>(isa);
    header.dtype = static_cast<uint32_t>(geometry.dtype);
    header.codes = geometry.codes;
    header.section_count = static_cast<uint32_t>(sections.count);
    header.rows = geometry.rows;
    header.cols = geometry.cols;
    header.p0 = geometry.p0;
    header.p1 = geometry.p1;
    header.kept = geometry.kept;
    header.total_bytes = total;
    int64_t offset = sizeof(Header);
    for (int i = 0; i < sections.count; ++i) {
        header.offsets[i] = offset;
        header.bytes[i] = sections.bytes[i];
        offset += align(sections.bytes[i]);
    }
    header.checksum = checksum(header);
    std::memcpy(out.data, &header, sizeof(Header));
    return view(header, out);
}

Resident open_resident(const Span& span) {
    check_buffer(span);
    if (span.shape[0] < static_cast<int64_t>(sizeof(Header))) {
        damaged("shorter than its header", std::to_string(sizeof(Header)) + " bytes or more");
    }
    Header header;
    std::memcpy(&header, span.data, sizeof(Header));
    if (header.magic != kMagic) damaged("wrong magic number", "\"SPCR\"");
    if (header.version != kVersion) damaged("header version " + std::to_string(header.version), "1");
    if (header.checksum != checksum(header)) damaged("header checksum", "an unmodified header");
    if (header.total_bytes != span.shape[0]) {
        damaged("buffer of " + std::to_string(span.shape[0]) + " bytes", std::to_string(header.total_bytes));
    }
    if (header.kind > 2 || header.dtype > static_cast<uint32_t>(core::DType::F8) || header.isa > 3 || header.section_count > kMaxSections ||
        header.rows < 0 || header.cols < 0 || header.kept < 0) {
        damaged("header fields out of range", "a header written by this version");
    }
    for (uint32_t i = 0; i < header.section_count; ++i) {
        const int64_t offset = header.offsets[i], bytes = header.bytes[i];
        if (offset < static_cast<int64_t>(sizeof(Header)) || offset % kAlignment != 0 || bytes < 0 ||
            offset > header.total_bytes || bytes > header.total_bytes - offset) {
            damaged("section " + std::to_string(i) + " lies outside", "sections inside the buffer");
        }
    }
    return view(header, span);
}

Sections stored_sections(const Stored& stored) {
    const PartBytes bytes = part_bytes(stored.geometry);
    return {kStoredParts, {bytes.values, bytes.positions, bytes.offsets, bytes.scales}};
}

void fill_stored(const Stored& stored, const Resident& out) {
    const Span* parts[kStoredParts] = {&stored.values, &stored.positions, &stored.offsets, &stored.scales};
    for (int i = 0; i < kStoredParts; ++i) {
        if (out.section_bytes[i] > 0) {
            std::memcpy(out.sections[i], parts[i]->data, static_cast<size_t>(out.section_bytes[i]));
        }
    }
}

void check_stored_sections(const Resident& resident) {
    const PartBytes bytes = part_bytes(resident.geometry);
    const int64_t expected[kStoredParts] = {bytes.values, bytes.positions, bytes.offsets, bytes.scales};
    bool same = resident.section_count == kStoredParts;
    for (int i = 0; same && i < kStoredParts; ++i) same = resident.section_bytes[i] == expected[i];
    if (!same) damaged("sections do not fit the sizes in the header", "the stored form of this weight");
}

Stored resident_stored_view(const Resident& resident) {
    check_stored_sections(resident);
    return stored_view(resident.geometry, resident.sections[0], resident.sections[1], resident.sections[2],
                       resident.sections[3]);
}

}  // namespace sparsecore::formats
