#include "cli/build_call.hpp"

#include "base/text.hpp"
#include "cli/build_flags.hpp"
#include "dockerfile/check_report.hpp"
#include "dockerfile/subrequest.hpp"

#include <algorithm>
#include <array>
#include <fmt/format.h>

namespace cooper::cli {

namespace {

constexpr std::string_view kPrefix = "frontend.";

// Names as they are typed, without the prefix.
const std::vector<std::string>& call_names() {
    static const std::vector<std::string> kNames = {
        "build", "check", "lint", "outline", "targets", "subrequests.describe", "convertllb"};
    return kNames;
}

Result<CallFormat> parse_format(std::string_view text) {
    if (text == "text") return CallFormat::text;
    if (text == "json") return CallFormat::json;
    if (text == "sarif") return CallFormat::sarif;
    return bad_input("--call format={}: want text, json or sarif", quoted(text));
}

std::string at(const std::map<std::string, std::string>& answer, const char* key) {
    const auto found = answer.find(key);
    return found == answer.end() ? std::string() : found->second;
}

std::string count_text(std::size_t count) {
    if (count == 1) return "1 warning has been found!";
    return fmt::format("{} warnings have been found!", count);
}

Result<int> print_checks(const BuildCall& call, const std::map<std::string, std::string>& answer,
                         const CalledFile& file) {
    dockerfile::CheckReport report = TRY(dockerfile::parse_check_report(at(answer, "result.json")));
    if (!file.shown.empty()) report.filename = file.shown;
    switch (call.format) {
        case CallFormat::json:
            fmt::print("{}\n", at(answer, "result.json"));
            break;
        case CallFormat::sarif:
            fmt::print("{}\n", dockerfile::to_sarif(report, file.path));
            break;
        case CallFormat::text:
            if (!report.findings.empty()) {
                fmt::print("Check complete, {}\n{}", count_text(report.findings.size()), dockerfile::to_text(report));
            } else if (!report.error) {
                fmt::print("Check complete, no warnings found.\n");
            }
            if (!report.findings.empty() && report.error) fmt::print("\n");
            break;
    }
    std::fflush(stdout);
    if (report.error) {
        fmt::print(stderr, "error: {}", dockerfile::error_text(report));
        return 1;
    }
    const auto status = parse_int(at(answer, "result.statuscode"));
    return call.ignore_status ? 0 : static_cast<int>(status.value_or(0));
}

}  // namespace

Result<BuildCall> parse_call(std::string_view flag) {
    BuildCall call;
    std::string name;
    for (const std::string& field : TRY(parse_csv(flag))) {
        const auto [key, value] = cut(field, '=');
        if (!value) {
            if (!name.empty()) return bad_input("invalid --call {}: two names, {} and {}", quoted(flag), name, field);
            name = field;
        } else if (key == "format") {
            call.format = TRY(parse_format(*value));
        } else if (key == "ignorestatus") {
            const bool yes = *value == "true" || *value == "1";
            if (!yes && *value != "false" && *value != "0") {
                return bad_input("invalid --call ignorestatus={}: want true or false", quoted(*value));
            }
            call.ignore_status = yes;
        } else {
            return bad_input("invalid --call field {}: want format=… or ignorestatus=…", quoted(field));
        }
    }
    if (name.empty())
        return bad_input("--call {} names nothing: want one of {}", quoted(flag), join(call_names(), ", "));
    if (std::ranges::find(call_names(), name) == call_names().end()) {
        const auto near = nearest(name, call_names());
        return bad_input("--call {}: want one of {}", quoted(name), join(call_names(), ", "))
            .with_hint(near ? "did you mean " + *near + "?" : "");
    }
    if (name == "check") name = "lint";
    if (name != "build") call.request = std::string(kPrefix) + name;
    if (call.format == CallFormat::sarif && call.request != dockerfile::kRequestLint) {
        return bad_input("--call {}: format=sarif is only for check", quoted(flag));
    }
    return call;
}

Result<int> print_answer(const BuildCall& call, const std::map<std::string, std::string>& answer,
                         const CalledFile& file) {
    if (call.request == dockerfile::kRequestLint) return print_checks(call, answer, file);
    if (call.format == CallFormat::json || !answer.contains("result.txt")) {
        fmt::print("{}\n", at(answer, "result.json"));
    } else {
        fmt::print("{}", at(answer, "result.txt"));
    }
    return 0;
}

}  // namespace cooper::cli
