// `cooper build --call=…`: which question, and its answer as docker buildx prints it.
#pragma once

#include "base/result.hpp"

#include <map>
#include <string>
#include <string_view>

namespace cooper::cli {

enum class CallFormat : std::uint8_t { text, json, sarif };

struct BuildCall {
    std::string request;  // id of the subrequest; empty = build
    CallFormat format = CallFormat::text;
    bool ignore_status = false;
};

// "check", "outline,format=json", "check,ignorestatus=true", "build".
[[nodiscard]] Result<BuildCall> parse_call(std::string_view flag);

// Where the Dockerfile is, for messages: as typed, and seen from the working directory.
struct CalledFile {
    std::string shown;  // empty = as the answer says
    std::string path;
};

// Prints on standard output, a build error on standard error. Returns the exit status.
[[nodiscard]] Result<int> print_answer(const BuildCall& call, const std::map<std::string, std::string>& answer,
                                       const CalledFile& file);

}  // namespace cooper::cli
