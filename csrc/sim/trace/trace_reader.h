// Reads a request trace in bounded memory, from text supplied in pieces of any size.
//
// A line is `[CYCLE] R|W ADDRESS BYTES [LABEL]`; its fields are separated by blanks or tabs.
//   CYCLE    decimal: at the earliest in this cycle. Never falls from line to line. Without it: as soon as possible.
//   R|W      also r, w and READ, WRITE in any case.
//   ADDRESS  decimal, or hexadecimal after 0x.
//   BYTES    likewise; 0 requests nothing.
//   LABEL    the stream: letters, digits and _ . - + / or any printable ASCII between double quotes; "read" or "write"
//            when left out.
// `#` starts a comment; empty lines are skipped; lines end with LF or CR LF, the last one may end with the text; a
// UTF-8 byte order mark is skipped. A line that starts with `#!sim ` is a directive:
//   reset TICKS  a new run starts: cycle 0, all rows closed, so many ticks after the last refresh.
//   apart        the next burst is sent even if it is equal to the one before it.
//   memory, set  for whoever chooses the memory; skipped here.
//
//     while (more text) { reader.feed(text, size); while ((n = reader.next(batch, max)) > 0) replay(batch, n); }
//     reader.finish(); while ((n = reader.next(batch, max)) > 0) replay(batch, n);
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sparsecore::sim {

struct TraceRequest {
    int64_t cycle = -1;  // -1: as soon as possible
    int64_t address = 0, bytes = 0;
    int32_t label = 0;  // index in TraceReader::labels()
    bool write = false;
    bool apart = false;     // not to be merged with what came before
    int64_t reset = -1;     // not below 0: no request, but a new run that starts so many ticks after a refresh
};

constexpr int64_t kLargestNumber = int64_t{1} << 60;  // of a trace
constexpr size_t kMostLabels = 256;
constexpr size_t kLongestLine = 4096;  // characters, without the end of the line

// Errors name the line. "CorruptFileError": a line is malformed, longer than kLongestLine, holds a NUL byte or a number
// beyond kLargestNumber, or its cycle is before an earlier line's. "InvalidValueError": address + bytes lies beyond the
// device, more than kMostLabels labels. A reader that has raised one is of no further use.
class TraceReader {
public:
    // `capacity`: bytes of the device. `source`: the file's name, put before the line's number in errors.
    explicit TraceReader(int64_t capacity, std::string source = "");

    // Adds text. It is copied, so that memory is what was fed and not yet parsed: feed when next() has run dry.
    void feed(const char* data, size_t size);
    // There is no more text: a last line without an end is complete.
    void finish();
    // Parses up to `max` requests into `out` and returns their number: 0 when more text is needed or the trace is over.
    size_t next(TraceRequest* out, size_t max);

    bool done() const { return finished_ && begin_ == text_.size(); }
    int64_t lines() const { return lines_; }  // parsed so far
    const std::vector<std::string>& labels() const { return labels_; }  // in order of their first appearance

private:
    const char* parse_line(const char* begin, TraceRequest& request, bool& found);
    const char* parse_directive(const char* begin, const char* hash, TraceRequest& request, bool& found);
    const char* parse_cycle(const char* begin, const char* p, int64_t& cycle);
    const char* parse_number(const char* begin, const char* p, int64_t& value, const char* field) const;
    const char* parse_direction(const char* begin, const char* p, bool& write) const;
    const char* parse_label(const char* begin, const char* p, TraceRequest& request);
    const char* end_line(const char* begin, const char* p) const;
    int32_t intern(std::string_view name);
    int32_t default_label(bool write);

    std::string where() const;
    std::string quoted(const char* begin) const;
    [[noreturn]] void reject(const char* begin, const std::string& what, const std::string& hint = "") const;
    [[noreturn]] void reject_long_line(const char* begin) const;
    [[noreturn]] void reject_range(const TraceRequest& request) const;
    const char* limit() const { return text_.data() + text_.size(); }

    int64_t capacity_ = 0, lines_ = 0, last_cycle_ = 0;
    std::string source_, text_;
    size_t begin_ = 0, complete_ = 0;  // text_[begin_, complete_) are whole lines that wait, the rest is a started one
    bool finished_ = false, apart_ = false;
    std::vector<std::string> labels_;
    std::array<int16_t, 2 * kMostLabels> slots_;  // hash table of labels, open addressing; -1: empty
    int32_t defaults_[2] = {-1, -1}, last_label_ = -1;
};

}  // namespace sparsecore::sim
