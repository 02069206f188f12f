#include "sim/trace/trace_reader.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace sparsecore::sim {

using core::Error;

namespace {

constexpr char kForm[] = "[CYCLE] R|W ADDRESS BYTES [LABEL], for example: R 0x1f40 64";
constexpr char kDirective[] = "#!sim ";
constexpr size_t kShown = 60;  // characters of a line in an error

// Every whole line ends with '\n', which is of no class but Stop: loops over a class need no other bound.
enum Class : uint8_t { Blank = 1, Stop = 2, Decimal = 4, Hex = 8, Label = 16 };

struct Classes {
    uint8_t of[256] = {};
    uint8_t digit[256] = {};
    constexpr Classes() {
        of[int(' ')] = of[int('\t')] = Blank;
        of[int('\n')] = of[int('\r')] = of[int('#')] = Stop;
        for (int i = 0; i < 10; ++i) {
            of['0' + i] = Decimal | Hex | Label;
            digit['0' + i] = static_cast<uint8_t>(i);
        }
        for (int i = 0; i < 26; ++i) {
            of['a' + i] = of['A' + i] = static_cast<uint8_t>(i < 6 ? Hex | Label : Label);
            digit['a' + i] = digit['A' + i] = static_cast<uint8_t>(10 + i);
        }
        for (const char mark : {'_', '.', '-', '+', '/'}) of[int(mark)] = Label;
    }
};
constexpr Classes kClasses;

inline bool is(char c, int classes) { return (kClasses.of[static_cast<uint8_t>(c)] & classes) != 0; }
inline uint64_t digit(char c) { return kClasses.digit[static_cast<uint8_t>(c)]; }
inline bool ends_field(char c) { return is(c, Blank | Stop); }
inline const char* skip_blanks(const char* p) {
    while (is(*p, Blank)) ++p;
    return p;
}

// The number that the digits [p, end) spell, or -1 beyond kLargestNumber.
int64_t careful_number(const char* p, const char* end, uint64_t base) {
    uint64_t value = 0;
    for (; p != end; ++p) {
        if (value > (static_cast<uint64_t>(kLargestNumber) - digit(*p)) / base) return -1;
        value = value * base + digit(*p);
    }
    return static_cast<int64_t>(value);
}

// Moves p behind the digits; -1: beyond kLargestNumber. No digits give 0.
inline int64_t take_decimal(const char*& p) {
    const char* begin = p;
    uint64_t value = 0;
    for (; is(*p, Decimal); ++p) value = value * 10 + digit(*p);  // may wrap; such a number is read again
    return p - begin <= 18 ? static_cast<int64_t>(value) : careful_number(begin, p, 10);
}

inline int64_t take_hexadecimal(const char*& p) {
    const char* begin = p;
    uint64_t value = 0;
    for (; is(*p, Hex); ++p) value = value << 4 | digit(*p);
    return p - begin <= 15 ? static_cast<int64_t>(value) : careful_number(begin, p, 16);
}

// Printable whatever the bytes are, so that any caller can show it.
std::string printable(const char* begin, const char* end) {
    std::string shown;
    for (; begin != end && shown.size() < kShown; ++begin) {
        const auto byte = static_cast<unsigned char>(*begin);
        char code[8];
        std::snprintf(code, sizeof code, byte >= 0x20 && byte < 0x7f ? "%c" : byte == '\t' ? " " : "\\x%02x", byte);
        shown += code;
    }
    return begin == end && shown.size() <= kShown ? shown : shown.substr(0, kShown) + "...";
}

std::string hexadecimal(int64_t value) {
    char text[24];
    std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
    return text;
}

}  // namespace

TraceReader::TraceReader(int64_t capacity, std::string source) : capacity_(capacity), source_(std::move(source)) {
    if (capacity < 0) throw Error("InvalidValueError", "a device of " + std::to_string(capacity) + " bytes");
    slots_.fill(-1);
}

void TraceReader::feed(const char* data, size_t size) {
    if (finished_) throw Error("InvalidValueError", "text after the end of the trace", where());
    text_.erase(0, begin_);
    complete_ -= begin_;
    begin_ = 0;
    const size_t newline = std::string_view(data, size).rfind('\n');
    if (newline != std::string_view::npos) complete_ = text_.size() + newline + 1;
    text_.append(data, size);
}

void TraceReader::finish() {
    if (!finished_ && complete_ != text_.size()) text_ += '\n';
    complete_ = text_.size();
    finished_ = true;
}

size_t TraceReader::next(TraceRequest* out, size_t max) {
    const char* p = text_.data() + begin_;
    const char* const end = text_.data() + complete_;
    if (lines_ == 0 && p != end && std::strncmp(p, "\xef\xbb\xbf", 3) == 0) p += 3;
    size_t count = 0;
    while (count < max && p != end) {
        bool found = false;
        p = parse_line(p, out[count], found);
        ++lines_;
        count += found;
    }
    begin_ = static_cast<size_t>(p - text_.data());
    if (p == end && text_.size() - complete_ > kLongestLine + 1) reject(p, "");  // + 1: a carriage return
    return count;
}

const char* TraceReader::parse_line(const char* begin, TraceRequest& request, bool& found) {
    const char* p = skip_blanks(begin);
    if (is(*p, Stop)) {
        const bool directive = std::strncmp(p, kDirective, sizeof kDirective - 1) == 0;
        return end_line(begin, directive ? parse_directive(begin, p, request, found) : p);
    }
    request.cycle = request.reset = -1;
    if (is(*p, Decimal)) p = parse_cycle(begin, p, request.cycle);
    p = parse_direction(begin, p, request.write);
    p = parse_number(begin, p, request.address, "address");
    p = parse_number(begin, p, request.bytes, "number of bytes");
    if (request.address > capacity_ || request.bytes > capacity_ - request.address) reject_range(request);
    p = parse_label(begin, p, request);
    request.apart = apart_;
    apart_ = false;
    found = true;
    return end_line(begin, p);
}

const char* TraceReader::parse_directive(const char* begin, const char* hash, TraceRequest& request, bool& found) {
    const char* word = skip_blanks(hash + sizeof kDirective - 1);
    const char* p = word;
    while (is(*p, Label)) ++p;
    const std::string_view name(word, static_cast<size_t>(p - word));
    if (name == "memory" || name == "set") return hash;  // a comment
    if (name == "apart") {
        apart_ = true;
    } else if (name == "reset") {
        request = TraceRequest{};
        p = parse_number(begin, skip_blanks(p), request.reset, "ticks since a refresh");
        last_cycle_ = 0;
        found = true;
    } else {
        reject(begin, "an unknown directive", "reset, apart, memory or set after #!sim; a comment has a blank after the #");
    }
    p = skip_blanks(p);
    if (!is(*p, Stop)) reject(begin, "more after the directive in");
    return p;
}

const char* TraceReader::parse_cycle(const char* begin, const char* p, int64_t& cycle) {
    cycle = take_decimal(p);
    if (!is(*p, Blank)) {
        reject(begin, "neither R, W nor a decimal issue cycle at the start of",
               "the address comes after R or W, whatever other simulators' traces do");
    }
    if (cycle < 0) reject(begin, "the issue cycle is larger than 2^60 in");
    if (cycle < last_cycle_) {
        reject(begin,
               "issue cycle " + std::to_string(cycle) + " comes after cycle " + std::to_string(last_cycle_) + " in",
               "sort the lines by their cycle");
    }
    last_cycle_ = cycle;
    return skip_blanks(p);
}

const char* TraceReader::parse_direction(const char* begin, const char* p, bool& write) const {
    const char first = static_cast<char>(*p & ~0x20);
    write = first == 'W';
    if (write || first == 'R') {
        if (is(p[1], Blank)) return skip_blanks(p + 1);
        const char* rest = write ? "RITE" : "EAD";
        for (++p; *rest != 0 && (*p & ~0x20) == *rest; ++rest) ++p;
        if (*rest == 0 && is(*p, Blank)) return skip_blanks(p);
    }
    reject(begin, "no R or W, followed by a blank, in");
}

const char* TraceReader::parse_number(const char* begin, const char* p, int64_t& value, const char* field) const {
    const bool hexadecimal = p[0] == '0' && (p[1] & ~0x20) == 'X';
    if (hexadecimal) p += 2;
    const char* digits = p;
    value = hexadecimal ? take_hexadecimal(p) : take_decimal(p);
    if (p == digits || !ends_field(*p)) reject(begin, std::string("cannot read the ") + field + " in");
    if (value < 0) reject(begin, std::string("the ") + field + " is larger than 2^60 in");
    return skip_blanks(p);
}

const char* TraceReader::parse_label(const char* begin, const char* p, TraceRequest& request) {
    if (is(*p, Stop)) {
        request.label = default_label(request.write);
        return p;
    }
    const bool quoted = *p == '"';
    const char* name = quoted ? ++p : p;
    if (quoted) {
        while (*p >= 0x20 && *p < 0x7f && *p != '"') ++p;
    } else {
        while (is(*p, Label)) ++p;
    }
    const char* end = p;
    if (quoted && *p == '"') ++p;
    if (end == name || (quoted && p == end) || !ends_field(*p)) {
        reject(begin, "cannot read the label in",
               "a label has letters, digits and _ . - + / or stands between double quotes");
    }
    p = skip_blanks(p);
    if (!is(*p, Stop)) reject(begin, "more after the label in", "put a label with blanks between double quotes");
    request.label = intern(std::string_view(name, static_cast<size_t>(end - name)));
    return p;
}

const char* TraceReader::end_line(const char* begin, const char* p) const {
    const char* newline = p;
    if (*p == '#') {
        newline = static_cast<const char*>(std::memchr(p, '\n', static_cast<size_t>(limit() - p)));
        if (std::memchr(p, 0, static_cast<size_t>(newline - p)) != nullptr) reject(begin, "");
    } else if (*p == '\r') {
        if (*++newline != '\n') reject(begin, "a carriage return inside");
    }
    const auto size = static_cast<size_t>(newline - begin);
    if (size > kLongestLine && size - (newline[-1] == '\r') > kLongestLine) reject_long_line(begin);
    return newline + 1;
}

int32_t TraceReader::default_label(bool write) {
    int32_t& label = defaults_[write];
    if (label < 0) label = intern(write ? "write" : "read");
    return label;
}

int32_t TraceReader::intern(std::string_view name) {
    if (last_label_ >= 0 && labels_[static_cast<size_t>(last_label_)] == name) return last_label_;
    uint64_t hash = 14695981039346656037u;  // FNV-1a
    for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 1099511628211u;
    size_t slot = (hash ^ hash >> 32) % slots_.size();
    for (; slots_[slot] >= 0; slot = (slot + 1) % slots_.size()) {
        if (labels_[static_cast<size_t>(slots_[slot])] == name) return last_label_ = slots_[slot];
    }
    if (labels_.size() == kMostLabels) {
        throw Error("InvalidValueError",
                    "one label too many: \"" + printable(name.data(), name.data() + name.size()) + '"', where(),
                    "at most " + std::to_string(kMostLabels) + " labels", "give requests of one kind the same label");
    }
    slots_[slot] = static_cast<int16_t>(labels_.size());
    labels_.emplace_back(name);
    return last_label_ = slots_[slot];
}

std::string TraceReader::where() const {
    return (source_.empty() ? "" : source_ + ", ") + "line " + std::to_string(lines_ + 1);
}

std::string TraceReader::quoted(const char* begin) const {
    const char* end = std::find(begin, limit(), '\n');
    if (end != begin && end[-1] == '\r') --end;
    return '"' + printable(begin, end) + '"';
}

void TraceReader::reject(const char* begin, const std::string& what, const std::string& hint) const {
    const char* end = std::find(begin, limit(), '\n');
    if (std::find(begin, end, '\0') != end) {
        throw Error("CorruptFileError", "a NUL byte in " + quoted(begin), where(), std::string("text: ") + kForm,
                    "is this a binary or UTF-16 file?");
    }
    if (static_cast<size_t>(end - begin) > kLongestLine + 1) reject_long_line(begin);
    throw Error("CorruptFileError", what + ' ' + quoted(begin), where(), kForm, hint);
}

void TraceReader::reject_long_line(const char* begin) const {
    throw Error("CorruptFileError",
                "a line of more than " + std::to_string(kLongestLine) + " characters, " + quoted(begin), where(), kForm,
                "is this a binary file?");
}

void TraceReader::reject_range(const TraceRequest& request) const {
    throw Error("InvalidValueError",
                "a request beyond the device: " + std::to_string(request.bytes) + " bytes from address " +
                    std::to_string(request.address) + " (" + hexadecimal(request.address) + ")",
                where(), "address + bytes at most the device's " + std::to_string(capacity_) + " bytes",
                "choose a larger memory, or one whose channels, ranks or rows are as many as the trace was made for");
}

}  // namespace sparsecore::sim
