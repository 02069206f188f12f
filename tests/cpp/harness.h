// A test is TEST(name) { ... CHECK(condition); CHECK_ERROR("Kind", statement); }. Random tests draw from random(),
// which is seeded afresh; main.cpp prints the seed and takes one to repeat a run.
#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "core/error.h"

namespace harness {

struct Case {
    const char* name;
    std::function<void()> body;
};

std::vector<Case>& cases();
std::mt19937_64& random();
void fail(const char* file, int line, const std::string& what);

struct Registration {
    Registration(const char* name, std::function<void()> body) { cases().push_back({name, std::move(body)}); }
};

inline int64_t integer(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random());
}
inline float normal() { return std::normal_distribution<float>()(random()); }
template <class T>
T pick(const std::vector<T>& choices) {
    return choices[static_cast<size_t>(integer(0, static_cast<int64_t>(choices.size()) - 1))];
}

template <class Statement>
void expect_error(const char* file, int line, const char* kind, Statement&& statement) {
    try {
        statement();
    } catch (const sparsecore::core::Error& error) {
        if (error.kind != kind) {
            fail(file, line, "expected " + std::string(kind) + ", got " + error.kind + ": " + error.message);
        }
        return;
    }
    fail(file, line, "expected " + std::string(kind) + ", nothing was thrown");
}

}  // namespace harness

#define TEST(name)                                                     \
    static void test_##name();                                         \
    static const harness::Registration register_##name(#name, test_##name); \
    static void test_##name()

#define CHECK(condition)                                                        \
    do {                                                                        \
        if (!(condition)) harness::fail(__FILE__, __LINE__, "false: " #condition); \
    } while (false)

#define CHECK_ERROR(kind, ...) harness::expect_error(__FILE__, __LINE__, kind, [&] { __VA_ARGS__; })
