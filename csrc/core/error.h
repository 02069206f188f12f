// The one exception type of csrc. `kind` is the name of the Python class that a binding raises in its place.
#pragma once

#include <exception>
#include <string>
#include <utility>

namespace sparsecore::core {

class Error : public std::exception {
public:
    std::string kind, message, where, expected, hint;

    Error(std::string kind_, std::string message_, std::string where_ = "", std::string expected_ = "",
          std::string hint_ = "")
        : kind(std::move(kind_)), message(std::move(message_)), where(std::move(where_)),
          expected(std::move(expected_)), hint(std::move(hint_)) {}

    const char* what() const noexcept override { return message.c_str(); }
};

}  // namespace sparsecore::core
