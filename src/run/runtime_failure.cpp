#include "run/runtime_failure.hpp"

#include "base/text.hpp"
#include "run/foreign_program.hpp"

#include <nlohmann/json.hpp>
#include <string>

namespace cooper::run {
namespace {

// The last error of a log of JSON lines; lines that are none are taken as they are.
std::string last_error(const std::string& log) {
    std::string found;
    for (const std::string& line : split(log, '\n')) {
        if (trim(line).empty()) continue;
        const auto entry = nlohmann::json::parse(line, nullptr, false);
        if (!entry.is_object() || !entry.contains("msg") || !entry["msg"].is_string()) {
            found = line;
            continue;
        }
        const std::string level = entry.value("level", "error");
        if (level == "error" || level == "fatal") found = entry["msg"].get<std::string>();
    }
    return found;
}

bool mentions(const std::string& text, std::initializer_list<const char*> words) {
    for (const char* word : words) {
        if (text.find(word) != std::string::npos) return true;
    }
    return false;
}

}  // namespace

std::optional<Error> runtime_failure(const StepEnd& end, const ProcessSpec& spec,
                                     const std::optional<std::string>& foreign, const Refusal& refusal) {
    if (end.code == 0) return std::nullopt;
    const std::string message = last_error(end.runtime_log);
    const std::string program = spec.args.empty() ? "" : spec.args.front();
    if (foreign && !refusal.useless_emulator.empty()) {
        return bad_input(
                   "exec {}: it is a program for linux/{}, and this machine's handler for such programs names {}, "
                   "which is no static program that is there",
                   cooper::quoted(program), *foreign, cooper::quoted(refusal.useless_emulator))
            .with_hint("install qemu-user-static, whose handlers hold their emulator open")
            .with_detail(ExitStatus{126, false});
    }
    if (refusal.refused || mentions(message, {"xec format error"})) {
        if (foreign) {
            return bad_input("exec {}: exec format error: it is a program for linux/{}, and this machine is linux/{}",
                             cooper::quoted(program), *foreign, own_architecture())
                .with_hint(fmt::format("install qemu-user-static (with a kernel before 6.7, or without crun, "
                                       "binfmt-support as well), so that programs for linux/{} run here; or build "
                                       "this platform at a builder of that kind",
                                       *foreign))
                .with_detail(ExitStatus{126, false});
        }
    }
    if (message.empty()) return std::nullopt;
    if (mentions(message, {"executable file", "exec: ", "execve", "open executable"})) {
        const bool denied = mentions(message, {"ermission denied", "Exec format error", "exec format error"});
        const int code = denied ? 126 : 127;
        return bad_input("exec {}: {}", cooper::quoted(program), message).with_detail(ExitStatus{code, false});
    }
    return fail(Code::failed_precondition, Blame::world, "start container: {}", message);
}

}  // namespace cooper::run
