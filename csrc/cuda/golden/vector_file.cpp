#include "cuda/golden/vector_file.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "core/error.h"

namespace sparsecore::cuda::golden {

namespace {

constexpr const char* kFirstLine = "sparsecore golden vector 1";
constexpr const char* kDigits = "0123456789abcdef";
constexpr std::size_t kBytesOfLine = 64, kMostBytes = 1 << 20;

// Lines of a file, counted for the message of a refusal.
class Lines {
public:
    explicit Lines(const std::string& path) : path_(path), file_(path) {}

    std::string next() {
        std::string line;
        ++number_;
        if (!std::getline(file_, line)) refuse("the file ends");
        return line;
    }
    // What follows "name: ".
    std::string field(const std::string& name) {
        const std::string line = next(), start = name + ": ";
        if (line.compare(0, start.size(), start) != 0) refuse("expected \"" + start + "...\"");
        return line.substr(start.size());
    }
    Bytes bytes(const std::string& name) {
        const std::string size = field(name);
        char* rest = nullptr;
        const std::size_t count = std::strtoul(size.c_str(), &rest, 10);
        if (std::string(rest) != " bytes" || count > kMostBytes) refuse("expected at most 1048576 bytes");
        Bytes content;
        while (content.size() < count) append(next(), std::min(count - content.size(), kBytesOfLine), content);
        return content;
    }
    void end() {
        std::string line;
        ++number_;
        if (std::getline(file_, line)) refuse("expected the end of the file");
    }
    [[noreturn]] void refuse(const std::string& why) const {
        throw core::Error("CorruptFileError", why, path_ + ":" + std::to_string(number_), "a golden vector",
                          "record it anew on a GPU: make gpu PART=golden");
    }

private:
    void append(const std::string& line, std::size_t count, Bytes& content) {
        const auto digit = [&](char c) {
            const char* found = std::find(kDigits, kDigits + 16, c);
            if (found == kDigits + 16) refuse("expected hexadecimal digits");
            return found - kDigits;
        };
        if (line.size() != 2 * count) refuse("expected " + std::to_string(count) + " bytes");
        for (std::size_t i = 0; i < line.size(); i += 2) {
            content.push_back(static_cast<unsigned char>(digit(line[i]) * 16 + digit(line[i + 1])));
        }
    }

    std::string path_;
    std::ifstream file_;
    int number_ = 0;
};

void write_bytes(std::ofstream& file, const char* name, const Bytes& content) {
    file << name << ": " << content.size() << " bytes\n";
    for (std::size_t i = 0; i < content.size(); ++i) {
        file << kDigits[content[i] / 16] << kDigits[content[i] % 16];
        if ((i + 1) % kBytesOfLine == 0 || i + 1 == content.size()) file << '\n';
    }
}

}  // namespace

void write_vector(const std::string& path, const Vector& vector) {
    std::ofstream file(path);
    file << kFirstLine << "\ncase: " << vector.name << "\ninstruction: " << vector.instruction << "\ngpu: " << vector.gpu
         << "\ndriver: " << vector.driver << "\ndate: " << vector.date << '\n';
    write_bytes(file, "input", vector.input);
    write_bytes(file, "output", vector.output);
    if (!file.flush()) throw core::Error("InvalidValueError", "the file cannot be written", path, "a folder that can be written to");
}

Vector read_vector(const std::string& path) {
    Lines lines(path);
    if (lines.next() != kFirstLine) lines.refuse(std::string("expected \"") + kFirstLine + "\"");
    Vector vector;
    vector.name = lines.field("case");
    vector.instruction = lines.field("instruction");
    vector.gpu = lines.field("gpu");
    vector.driver = lines.field("driver");
    vector.date = lines.field("date");
    vector.input = lines.bytes("input");
    vector.output = lines.bytes("output");
    lines.end();
    return vector;
}

}  // namespace sparsecore::cuda::golden
