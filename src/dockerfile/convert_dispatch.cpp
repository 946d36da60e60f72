#include "dockerfile/convert_dispatch.hpp"

#include "base/clock.hpp"
#include "base/text.hpp"
#include "dockerfile/convert_args.hpp"

#include <algorithm>

namespace cooper::dockerfile {

namespace {

constexpr const char* kHistoryComment = "buildkit.dockerfile.v0";

}  // namespace

void Dispatcher::start() {
    oci::ContainerConfig& config = stage_.image.config;
    const bool has_path =
        std::ranges::any_of(config.env, [](const std::string& entry) { return cut(entry, '=').first == "PATH"; });
    if (!has_path && platform().os != "windows") config.env.push_back("PATH=" + default_path(platform().os));
    for (const std::string& entry : config.env) {
        const auto [key, value] = cut(entry, '=');
        stage_.state.add_env(key, value.value_or(""));
    }
    if (!shared_.options.hostname.empty()) stage_.state.set_hostname(shared_.options.hostname);
    if (!config.working_dir.empty()) set_workdir(std::string(config.working_dir));
    if (!config.user.empty()) stage_.state.set_user(config.user);
    stage_.state.set_network(shared_.options.network);
}

Result<> Dispatcher::run(StageCommand& command) {
    command_ = &command;
    stage_.counter.on_build = command.on_build;
    return std::visit([this](auto& body) { return dispatch(body); }, command.instruction.command);
}

const oci::Platform& Dispatcher::platform() const {
    return stage_.platform ? *stage_.platform : shared_.target_platform;
}

std::optional<std::int64_t> Dispatcher::epoch_ns() const {
    if (!shared_.epoch_seconds) return std::nullopt;
    return *shared_.epoch_seconds * 1'000'000'000;
}

std::string Dispatcher::named_step(std::string_view text) {
    return step_name(stage_.counter, text, &platform(), &stage_.state.env());
}

llb::Constraints Dispatcher::constraints(std::string name) const {
    llb::Constraints out;
    out.set_name(std::move(name));
    out.metadata.ignore_cache = stage_.ignore_cache;
    out.source = shared_.source;
    out.ranges = to_llb_ranges(command_->instruction.location);
    return out;
}

void Dispatcher::commit(std::string created_by, bool with_layer) {
    oci::HistoryEntry entry;
    entry.created_by = std::move(created_by);
    entry.comment = kHistoryComment;
    entry.empty_layer = !with_layer;
    if (shared_.epoch_seconds) entry.created = format_rfc3339(Timestamp(std::chrono::seconds(*shared_.epoch_seconds)));
    stage_.image.history.push_back(std::move(entry));
}

std::vector<std::string> Dispatcher::with_shell(const std::vector<std::string>& words) const {
    std::vector<std::string> out = stage_.image.config.shell;
    if (out.empty()) {
        if (stage_.image.platform.os == "windows") {
            out = {"cmd", "/S", "/C"};
        } else {
            out = {"/bin/sh", "-c"};
        }
    }
    out.push_back(join(words, " "));
    return out;
}

// "|2 a=1 b=2 /bin/sh -c make": the arguments in scope are part of what the command was.
std::string Dispatcher::run_history(const std::vector<std::string>& args) const {
    std::vector<std::string> scope;
    std::vector<std::string> keys;
    for (const BuildArg& arg : stage_.build_args) {
        const auto value = stage_.state.env().get(arg.key);
        std::string text = arg.key + "=" + (value ? std::string(*value) : arg.value.value_or(""));
        const auto seen = std::ranges::find(keys, arg.key);
        if (seen != keys.end()) {
            scope[static_cast<std::size_t>(seen - keys.begin())] = std::move(text);
        } else {
            keys.push_back(arg.key);
            scope.push_back(std::move(text));
        }
    }
    std::string out;
    if (!scope.empty()) out = "|" + std::to_string(scope.size()) + " " + join(scope, " ") + " ";
    return out + join(args, " ");
}

}  // namespace cooper::dockerfile
