#include "dockerfile/convert_dispatch.hpp"

#include "base/clock.hpp"
#include "base/text.hpp"
#include "dockerfile/convert_args.hpp"

#include <algorithm>
#include <unordered_map>

namespace cooper::dockerfile {

namespace {

constexpr const char* kHistoryComment = "buildkit.dockerfile.v0";
// What one variable costs beside its text.
constexpr std::size_t kVariableBytes = 64;
constexpr std::size_t kMostVariables = 4000;

}  // namespace

std::vector<llb::Range> to_llb_ranges(const Lines& lines) { return {{{lines.first, 0}, {lines.last, 0}}}; }

// A step keeps the environment it runs in.
void Dispatcher::charge_environment() const {
    for (const auto& [key, value] : stage_.state.env().entries()) {
        shared_.budget.charge(key.size() + value.size() + kVariableBytes);
    }
}

Result<> Dispatcher::start() {
    oci::ContainerConfig& config = stage_.image.config;
    charge_environment();
    for (const std::string& entry : config.env) shared_.budget.charge(entry.size() + kVariableBytes);
    shared_.budget.charge(kVariableBytes * (config.labels.size() + config.exposed_ports.size() + config.volumes.size() +
                                            stage_.build_args.size()));
    TRY(shared_.budget.check());
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
    return {};
}

Result<> Dispatcher::run(StageCommand& command) {
    command_ = &command;
    stage_.counter.on_build = command.on_build;
    TRY(std::visit([this](auto& body) { return dispatch(body); }, command.instruction.command));
    return shared_.budget.check();
}

Result<> Dispatcher::check_variables() const {
    if (stage_.state.env().entries().size() <= kMostVariables && stage_.build_args.size() <= kMostVariables) return {};
    return bad_input("the stage has more than {} variables", kMostVariables);
}

Result<std::string> Dispatcher::expand_with(const ShellLex& lex, std::string_view word) {
    const llb::EnvList& env = stage_.state.env();
    Expansion expansion = TRY(lex.expand(word, env));
    shared_.budget.charge(expansion.text.size());
    TRY(shared_.budget.check());
    if (!expansion.unmatched.empty()) {
        std::set<std::string> declared;
        for (const BuildArg& arg : stage_.build_args) declared.insert(arg.key);
        lint_variables(shared_.linter, command_->instruction, expansion.unmatched, declared, env);
    }
    return std::move(expansion.text);
}

Result<std::string> Dispatcher::expand(std::string_view word) { return expand_with(ShellLex(shared_.escape), word); }

Result<> Dispatcher::expand_in_place(std::string& word) {
    if (word.find_first_of("$\"'\\`") == std::string::npos) return {};
    word = TRY(expand(word));
    return {};
}

Result<std::vector<std::string>> Dispatcher::expand_words(std::string_view word) {
    auto words = TRY(ShellLex(shared_.escape).expand_words(word, stage_.state.env()));
    for (const std::string& one : words) shared_.budget.charge(sizeof one + one.size());
    TRY(shared_.budget.check());
    return words;
}

// Backslash whatever the escape directive says, quotes untouched.
Result<std::string> Dispatcher::expand_heredoc(std::string_view body) {
    return expand_with(ShellLex('\\', {.skip_quotes = true}), body);
}

Result<std::vector<Mount>> Dispatcher::expand_mounts(const RunCommand& run) {
    std::vector<Mount> out;
    for (const std::string& flag : run.mount_flags) {
        out.push_back(TRY(parse_mount(flag, [this](std::string_view value) { return expand(value); })));
    }
    return out;
}

std::string Dispatcher::expand_for_display(std::string_view text, const llb::EnvList& env, Unset unset) const {
    LexOptions options;
    options.raw_quotes = options.keep_unset = unset == Unset::verbatim;
    auto expanded = ShellLex(shared_.escape, options).expand_word(text, env);
    if (expanded) shared_.budget.charge(expanded->size());
    return expanded ? std::move(*expanded) : std::string(text);
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
    shared_.budget.charge(created_by.size());
    if (with_layer) charge_environment();
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
    std::unordered_map<std::string_view, std::size_t> seen;
    std::unordered_map<std::string_view, std::string_view> env;
    for (const auto& [key, value] : stage_.state.env().entries()) env.emplace(key, value);
    for (const BuildArg& arg : stage_.build_args) {
        const auto value = env.find(arg.key);
        std::string text = arg.key + "=" + (value != env.end() ? std::string(value->second) : arg.value.value_or(""));
        const auto [place, added] = seen.emplace(arg.key, scope.size());
        if (added) {
            scope.push_back(std::move(text));
        } else {
            scope[place->second] = std::move(text);
        }
    }
    std::string out;
    if (!scope.empty()) out = "|" + std::to_string(scope.size()) + " " + join(scope, " ") + " ";
    return out + join(args, " ");
}

}  // namespace cooper::dockerfile
