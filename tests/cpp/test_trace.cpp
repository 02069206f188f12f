// The reader of request traces: every form of a line, every cut of the text, every error with its line.
#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <string>
#include <vector>

#include "harness.h"
#include "sim/trace/trace_reader.h"

using namespace sparsecore::sim;
using sparsecore::core::Error;

namespace {

constexpr int64_t kDevice = int64_t{1} << 34;

struct Parsed {
    std::vector<TraceRequest> requests;
    std::vector<std::string> labels;
    int64_t lines = 0;
};

// Feeds the text in the given pieces (the rest at once), asking for `batch` requests at a time.
Parsed parse(const std::string& text, const std::vector<size_t>& cuts = {}, size_t batch = 7,
             int64_t device = kDevice) {
    Parsed parsed;
    TraceReader reader(device);
    std::vector<TraceRequest> out(batch);
    const auto drain = [&] {
        for (size_t n; (n = reader.next(out.data(), batch)) > 0;) {
            parsed.requests.insert(parsed.requests.end(), out.begin(), out.begin() + static_cast<std::ptrdiff_t>(n));
        }
    };
    size_t begin = 0;
    for (const size_t cut : cuts) {
        reader.feed(text.data() + begin, cut - begin);
        drain();
        begin = cut;
    }
    reader.feed(text.data() + begin, text.size() - begin);
    drain();
    CHECK(!reader.done());
    reader.finish();
    drain();
    CHECK(reader.done());
    parsed.labels = reader.labels();
    parsed.lines = reader.lines();
    return parsed;
}

bool same(const TraceRequest& a, const TraceRequest& b) {
    return a.cycle == b.cycle && a.address == b.address && a.bytes == b.bytes && a.label == b.label &&
           a.write == b.write && a.apart == b.apart && a.reset == b.reset;
}

bool same(const Parsed& a, const Parsed& b) {
    return a.labels == b.labels && a.lines == b.lines && a.requests.size() == b.requests.size() &&
           std::equal(a.requests.begin(), a.requests.end(), b.requests.begin(),
                      [](const TraceRequest& x, const TraceRequest& y) { return same(x, y); });
}

Error error_of(const std::string& text, const std::vector<size_t>& cuts = {}, int64_t device = kDevice) {
    try {
        parse(text, cuts, 7, device);
    } catch (const Error& error) {
        return error;
    }
    return {"", "nothing was thrown for: " + text};
}

// The same error whole and in single characters.
void refuses(const std::string& text, const std::string& kind, int64_t line, const std::string& part) {
    std::vector<size_t> every;
    for (size_t i = 1; i < text.size(); ++i) every.push_back(i);
    for (const auto& cuts : {std::vector<size_t>{}, every}) {
        const auto error = error_of(text, cuts);
        if (error.kind != kind || error.where != "line " + std::to_string(line) ||
            error.message.find(part) == std::string::npos) {
            harness::fail(__FILE__, __LINE__, '"' + text.substr(0, 100) + "\": " + error.kind + ", " + error.where +
                                                  ", " + error.message + "; expected " + part);
        }
    }
}

constexpr char kCorrupt[] = "CorruptFileError";
constexpr char kInvalid[] = "InvalidValueError";

const std::string kSample =
    "\xef\xbb\xbf# a trace\r\n"
    "R 0x1f40 64\n"
    "\n"
    "\t 5 W\t8000  0x20 # five\r\n"
    "   \t\r\n"
    "5 read 0XaBcDeF 0 K\n"
    "Write 12 1 \"K low bits\" # named\n"
    "#R 1 1\n"
    "17 r 0000000000000000000000007 64 \"a#b\"#\n"
    "WRITE 1 1 write\n"
    "w 0x00000000000000000000f 3 a_.-+/Z9";

}  // namespace

TEST(trace_every_form_of_a_line) {
    const Parsed parsed = parse(kSample);
    const std::vector<std::string> labels = {"read", "write", "K", "K low bits", "a#b", "a_.-+/Z9"};
    const std::vector<TraceRequest> expected = {
        {-1, 0x1f40, 64, 0, false}, {5, 8000, 32, 1, true}, {5, 0xabcdef, 0, 2, false}, {-1, 12, 1, 3, true},
        {17, 7, 64, 4, false},      {-1, 1, 1, 1, true},    {-1, 15, 3, 5, true}};
    CHECK(same(parsed, Parsed{expected, labels, 11}));
}

TEST(trace_cut_anywhere) {
    const Parsed whole = parse(kSample);
    for (size_t i = 0; i <= kSample.size(); ++i) {
        for (size_t j = i; j <= kSample.size(); ++j) {
            CHECK(same(parse(kSample, {i, j}, static_cast<size_t>(harness::integer(1, 9))), whole));
        }
    }
    CHECK(same(parse(kSample + "\n"), whole));
    CHECK(same(parse(kSample + "\r\n"), whole));
}

TEST(trace_random_text_is_read_back) {
    for (int round = 0; round < 40; ++round) {
        std::string text;
        Parsed expected;
        int64_t cycle = 0;
        const auto blank = [] { return harness::pick<std::string>({" ", "\t", " \t  "}); };
        for (int64_t i = harness::integer(0, 300); i > 0; --i, ++expected.lines) {
            TraceRequest r;
            r.address = harness::integer(0, harness::pick<int64_t>({9, 5000, kDevice}));
            r.bytes = std::min(harness::integer(0, 200), kDevice - r.address);
            r.write = harness::integer(0, 1) != 0;
            if (harness::integer(0, 1) != 0) {
                r.cycle = cycle += harness::integer(0, 1) * harness::integer(0, int64_t{1} << harness::integer(0, 50));
                text += std::to_string(cycle) + blank();
            }
            char address[32];
            std::snprintf(address, sizeof address, harness::pick<const char*>({"%lld", "0x%llx", "0x%llX"}),
                          static_cast<long long>(r.address));
            const std::string label = "stream" + std::to_string(harness::integer(0, 99));
            text += (r.write ? "W" : "R") + blank() + address + blank() + std::to_string(r.bytes) + blank() + label;
            text += harness::pick<const char*>({"\n", "\r\n", "  \n", " # note\n"});
            const auto found = std::find(expected.labels.begin(), expected.labels.end(), label);
            r.label = static_cast<int32_t>(found - expected.labels.begin());
            if (found == expected.labels.end()) expected.labels.push_back(label);
            expected.requests.push_back(r);
        }
        std::vector<size_t> cuts;
        const auto size = static_cast<int64_t>(text.size());
        for (int i = 0; i < 20; ++i) cuts.push_back(static_cast<size_t>(harness::integer(0, size)));
        std::sort(cuts.begin(), cuts.end());
        CHECK(same(parse(text, cuts, static_cast<size_t>(harness::integer(1, 400))), expected));
    }
}

TEST(trace_empty_texts) {
    CHECK(parse("").requests.empty());
    CHECK(parse("\xef\xbb\xbf").requests.empty());
    CHECK(parse("\n\n# nothing").lines == 3);
    CHECK(parse("\n\n# nothing\n").lines == 3);
}

TEST(trace_malformed_lines) {
    const std::string good = "# head\n\n7 R 0x40 64\n";
    const auto malformed = [&](const std::string& line, const std::string& part) {
        refuses(line, kCorrupt, 1, part);
        refuses(good + line + "\nR 1 1\n", kCorrupt, 4, part);
    };
    for (const char* line : {"0x40 R 64", "12a R 64", "0x40", "5", "5\r", "5#", "5.5 R 1 1"}) {
        malformed(line, "decimal issue cycle");
    }
    for (const char* line : {"X 1 1", "R", "RE 1 1", "READS 1 1", "R0x40 64", "9 64", "W# 1", "-1 R 1 1", "LD 0x40",
                             "REaT 1 1", "READ"}) {
        malformed(line, "no R or W");
    }
    for (const char* line : {"R ", "R -4 64", "R 0x 64", "R 0xg 1", "R 12b 1", "R , 1", "R #"}) {
        malformed(line, "the address");
    }
    for (const char* line : {"R 4", "R 4 ", "R 4 -1", "R 4 1e3", "R 4 64B", "R 4 # 64"}) {
        malformed(line, "the number of bytes");
    }
    for (const char* line : {"R 4 64 a,b", "R 4 64 \"\"", "R 4 64 \"open", "R 4 64 \"a\"b", "R 4 64 \"a\tb\"",
                             "R 4 64 \xc3\xa4"}) {
        malformed(line, "cannot read the label");
    }
    malformed("R 4 64 a b", "more after the label");
    malformed("R 4 64\rR 5 64", "carriage return");
    refuses(good + "R 1152921504606846977 1", kCorrupt, 4, "address is larger than 2^60");
    for (const char* address : {"0x4000000000000001", "0xffffffffffffffff", "0x10000000000000001"}) {
        refuses(std::string("R ") + address + " 1", kCorrupt, 1, "address is larger");
    }
    refuses("R 1 9223372036854775808", kCorrupt, 1, "number of bytes is larger");
    refuses("1152921504606846977 R 1 1", kCorrupt, 1, "issue cycle is larger");
    refuses("R 1152921504606846976 1", kInvalid, 1, "beyond the device");
    refuses("1152921504606846976 R 1 1\n1 R 1 1", kCorrupt, 2, "cycle 1 comes after cycle 1152921504606846976");
    refuses(good + "R 1 1\n# 3\n6 R 1 1\n", kCorrupt, 6, "cycle 6 comes after cycle 7");
}

TEST(trace_ends_of_the_device) {
    CHECK(parse("R 90 10\nR 100 0\nW 0 100", {}, 7, 100).requests.size() == 3);
    for (const char* line : {"R 90 11", "R 101 0", "R 0x1000 64", "R 0 1152921504606846976",
                             "W 1152921504606846976 1152921504606846976"}) {
        const auto error = error_of(std::string("\nR 1 1\n") + line, {}, 100);
        CHECK(error.kind == kInvalid && error.where == "line 3");
        CHECK(error.expected.find("device's 100 bytes") != std::string::npos);
    }
    CHECK(error_of("R 0x1000 64", {}, 100).message.find("64 bytes from address 4096 (0x1000)") != std::string::npos);
    CHECK_ERROR("InvalidValueError", TraceReader(-1));
}

TEST(trace_binary_files) {
    const std::string nul(1, '\0');
    refuses("R 1 1\nR 1" + nul + " 1\n", kCorrupt, 2, "NUL byte");
    refuses("R 1 1 # a" + nul + "b\n", kCorrupt, 1, "NUL byte in \"R 1 1 # a\\x00b\"");
    refuses(std::string(5000, '\0'), kCorrupt, 1, "NUL byte");
    refuses("R 1 1\n" + std::string(5000, 'x'), kCorrupt, 2, "more than 4096");
    refuses("R 1 1\n" + std::string(5000, ' ') + "\n", kCorrupt, 2, "more than 4096");
    const std::string longest = "#" + std::string(kLongestLine - 1, '-');
    CHECK(parse(longest).lines == 1);
    CHECK(parse(longest + "\r\n" + longest + "\r").lines == 2);
    for (const char* end : {"", "\n", "\r\n"}) refuses("\n" + longest + "-" + end, kCorrupt, 2, "more than 4096");
    refuses("R 1 1\n" + std::string(59, 'x') + "\xff", kCorrupt, 2, '"' + std::string(59, 'x') + "\\...\"");
    refuses(std::string(60, 'x') + "\r\n", kCorrupt, 1, '"' + std::string(60, 'x') + '"');
    refuses(std::string(61, 'x'), kCorrupt, 1, '"' + std::string(60, 'x') + "...\"");
}

TEST(trace_labels) {
    std::string text;
    for (size_t i = 0; i < kMostLabels; ++i) text += "R 0 1 l" + std::to_string(i) + "\n";
    CHECK(parse(text + text).labels.size() == kMostLabels);
    CHECK(parse(text + text).requests.back().label == static_cast<int32_t>(kMostLabels - 1));
    const auto line = static_cast<int64_t>(kMostLabels) + 1;
    refuses(text + "W 0 1 \"one more\"", kInvalid, line, "one label too many: \"one more\"");
    refuses(text + "W 0 1", kInvalid, line, "one label too many: \"write\"");
}

TEST(trace_reads_directives) {
    const Parsed parsed = parse("#!sim memory hbm2\n 7 R 0 1\n#!sim apart\n#sim reset 3\n8 R 0 1\n#!sim reset 0x10 # so\n2 W 1 1\n");
    CHECK(parsed.requests.size() == 4 && parsed.lines == 7);
    CHECK(!parsed.requests[0].apart && parsed.requests[1].apart && !parsed.requests[3].apart);
    CHECK(parsed.requests[1].reset == -1 && parsed.requests[2].reset == 16 && parsed.requests[3].reset == -1);
    CHECK(parsed.requests[3].cycle == 2);  // a new run starts at cycle 0
    refuses("R 0 1\n#!sim rest 3", kCorrupt, 2, "an unknown directive");
    refuses("#!sim reset", kCorrupt, 1, "cannot read the ticks since a refresh");
    refuses("#!sim reset 3 4", kCorrupt, 1, "more after the directive");
    refuses("#!sim apart 4", kCorrupt, 1, "more after the directive");
}

TEST(trace_names_the_file_and_refuses_late_text) {
    TraceReader reader(100, "a.trace");
    reader.feed("R 1 1\nR 2", 9);
    TraceRequest request;
    CHECK(reader.next(&request, 1) == 1 && reader.next(&request, 1) == 0);
    reader.finish();
    reader.finish();
    CHECK_ERROR("InvalidValueError", reader.feed("\n", 1));
    try {
        reader.next(&request, 1);
        harness::fail(__FILE__, __LINE__, "nothing was thrown");
    } catch (const Error& error) {
        CHECK(error.where == "a.trace, line 2");
    }
}
