// CheckReport: what the checks found in one file, as texts: BuildKit's JSON and plain text (the results of
// its "frontend.lint"), and SARIF 2.1.0. Pure, any thread.
#pragma once

#include "base/result.hpp"
#include "dockerfile/source_text.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::dockerfile {

struct CheckFinding {
    std::string rule;
    std::string description;  // of the rule
    std::string url;
    std::string detail;  // the message; further lines say more
    Lines lines;         // first 0: nowhere
};
struct CheckError {
    std::string message;
    Lines lines;
};
struct CheckReport {
    std::string filename;
    std::string text;  // of the file
    std::vector<CheckFinding> findings;
    std::optional<CheckError> error;  // the file cannot be built
};

[[nodiscard]] std::string to_json(const CheckReport& report);
// The door back: reports come from daemons too.
[[nodiscard]] Result<CheckReport> parse_check_report(std::string_view json);
// By lines, each with its excerpt.
[[nodiscard]] std::string to_text(const CheckReport& report);
// The error and its excerpt; empty without one.
[[nodiscard]] std::string error_text(const CheckReport& report);
// `path`: of the file, relative to where the user works.
[[nodiscard]] std::string to_sarif(const CheckReport& report, std::string_view path);

}  // namespace cooper::dockerfile
