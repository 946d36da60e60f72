#include "dockerfile/instructions.hpp"

#include "base/text.hpp"
#include "dockerfile/csv.hpp"
#include "dockerfile/flags.hpp"
#include "dockerfile/go_duration.hpp"
#include "dockerfile/runes.hpp"

#include <algorithm>

namespace cooper::dockerfile {

namespace {

std::string upper(const Node& node) { return to_upper(node.command); }
Error needs_one(const Node& node) { return bad_input("{} requires exactly one argument", upper(node)); }
Error needs_some(const Node& node) { return bad_input("{} requires at least one argument", upper(node)); }

// The mistake is `token`, which stands somewhere in the instruction.
Error at_token(Error error, const Node& node, std::string_view token) {
    const std::size_t offset = node.original.find(token, std::min(node.keyword.size(), node.original.size()));
    if (token.empty() || offset == std::string::npos) return error;
    return error.with_detail(range_in_file(node, offset, token.size()));
}

using KnownFlags = std::map<std::string, FlagKind>;
Result<Flags> parse_flags(const Node& node, const KnownFlags& known) {
    auto flags = Flags::parse(node.flags, known);
    if (flags) return flags;
    // Which one it was: the last of the shortest beginning that fails.
    std::size_t good = 0;
    for (std::size_t bad = node.flags.size(); bad - good > 1;) {
        const std::size_t middle = good + (bad - good) / 2;
        const std::vector<std::string> some(node.flags.begin(),
                                            node.flags.begin() + static_cast<std::ptrdiff_t>(middle));
        (Flags::parse(some, known) ? good : bad) = middle;
    }
    return at_token(std::move(flags).error(), node, node.flags[good]);
}

Result<> no_flags(const Node& node) {
    TRY(parse_flags(node, {}));
    return {};
}

Result<FileSources> file_sources(Node& node) {
    FileSources files;
    if (node.words.size() < 2) {
        return bad_input(
            "{} requires at least two arguments, but only {} {} provided. Destination could not be determined",
            upper(node), node.words.size(), node.words.size() == 1 ? "was" : "were");
    }
    files.dest = node.words.back();
    std::size_t taken = 0;  // of the here-documents
    for (std::size_t i = 0; i + 1 < node.words.size(); ++i) {
        std::string word = std::move(node.words[i]);
        if (!node.json && taken < node.heredocs.size()) {
            if ((word == "<<" || word == "<<-") && i + 2 < node.words.size()) word += node.words[++i];
            if (parse_heredoc_word(word)) {
                Heredoc& heredoc = node.heredocs[taken++];
                if (heredoc.chomp) heredoc.data = chomp_heredoc(heredoc.data);
                files.contents.push_back(std::move(heredoc));
                continue;
            }
        }
        files.paths.push_back(std::move(word));
    }
    if (!node.json && !node.heredocs.empty() && parse_heredoc_word(files.dest)) {
        return at_token(bad_input("{} cannot accept a heredoc as a destination", upper(node)), node, files.dest);
    }
    return files;
}

Result<Command> parse_copy(Node& node) {
    static const KnownFlags kKnown = {{"from", FlagKind::text},       {"chown", FlagKind::text},
                                      {"chmod", FlagKind::text},      {"link", FlagKind::boolean},
                                      {"parents", FlagKind::boolean}, {"exclude", FlagKind::list}};
    const Flags flags = TRY(parse_flags(node, kKnown));
    CopyCommand copy;
    copy.files = TRY(file_sources(node));
    copy.from = flags.text("from");
    copy.chown = flags.text("chown");
    copy.chmod = flags.text("chmod");
    copy.link = flags.boolean("link").value_or(false);
    copy.parents = flags.boolean("parents").value_or(false);
    copy.exclude = flags.list("exclude");
    return Command(std::move(copy));
}

Result<Command> parse_add(Node& node) {
    static const KnownFlags kKnown = {{"chown", FlagKind::text},    {"chmod", FlagKind::text},
                                      {"link", FlagKind::boolean},  {"keep-git-dir", FlagKind::boolean},
                                      {"checksum", FlagKind::text}, {"unpack", FlagKind::boolean},
                                      {"exclude", FlagKind::list}};
    const Flags flags = TRY(parse_flags(node, kKnown));
    AddCommand add;
    add.files = TRY(file_sources(node));
    add.chown = flags.text("chown");
    add.chmod = flags.text("chmod");
    add.link = flags.boolean("link").value_or(false);
    add.keep_git_dir = flags.boolean("keep-git-dir");
    add.unpack = flags.boolean("unpack");
    add.checksum = flags.text("checksum");
    add.exclude = flags.list("exclude");
    return Command(std::move(add));
}

Result<RunDevice> parse_device(std::string_view csv) {
    RunDevice device;
    for (const auto& field : TRY(parse_csv_line(csv))) {
        const auto [key, value] = cut(field, '=');
        if (key == "required") {
            device.required = !value || to_lower(*value) == "true";
        } else if (key == "name" && value) {
            device.name = *value;
        } else if (device.name.empty() && field.find('/') != std::string::npos) {
            device.name = field;
        } else {
            return bad_input("unexpected key '{}' in --device {}", key, quoted(csv));
        }
    }
    return device;
}

Result<Command> parse_run(Node& node) {
    static const KnownFlags kKnown = {{"mount", FlagKind::list},
                                      {"network", FlagKind::text},
                                      {"security", FlagKind::text},
                                      {"device", FlagKind::list}};
    const Flags flags = TRY(parse_flags(node, kKnown));
    RunCommand run;
    run.words = std::move(node.words);
    run.prepend_shell = !node.json;
    if (run.words.empty()) {
        if (node.json) return needs_some(node);
        run.words = {""};
    }
    run.heredocs = std::move(node.heredocs);
    run.mount_flags = flags.list("mount");
    for (const auto& mount : run.mount_flags) {
        if (auto read = parse_mount(mount, nullptr); !read) return at_token(std::move(read).error(), node, mount);
    }
    const std::string network = flags.text("network");
    if (network == "none") {
        run.network = RunNetwork::none;
    } else if (network == "host") {
        run.network = RunNetwork::host;
    } else if (!network.empty() && network != "default") {
        const auto near = nearest(network, {"default", "none", "host"});
        return at_token(
            bad_input("unsupported network mode {}{}", quoted(network), near ? " (did you mean " + *near + "?)" : ""),
            node, network);
    }
    const std::string security = flags.text("security");
    if (security == "insecure") {
        run.security = RunSecurity::insecure;
    } else if (!security.empty() && security != "sandbox") {
        const auto near = nearest(security, {"sandbox", "insecure"});
        return at_token(
            bad_input("security {} is not valid{}", quoted(security), near ? " (did you mean " + *near + "?)" : ""),
            node, security);
    }
    for (const auto& device : flags.list("device")) run.devices.push_back(TRY(parse_device(device)));
    return Command(std::move(run));
}

Result<Command> parse_healthcheck(Node& node) {
    if (node.words.empty()) return needs_some(node);
    HealthcheckCommand health;
    const std::string type = to_upper(node.words[0]);
    if (type == "NONE") {
        if (node.words.size() > 1) return bad_input("HEALTHCHECK NONE takes no arguments");
        health.check.test = {"NONE"};
        return Command(std::move(health));
    }
    if (type != "CMD") {
        return at_token(bad_input("unknown type {} in HEALTHCHECK (try CMD)", quoted(type)), node, node.words[0]);
    }
    if (node.words.size() < 2) return bad_input("missing command after HEALTHCHECK CMD");
    static const KnownFlags kKnown = {{"interval", FlagKind::text},
                                      {"timeout", FlagKind::text},
                                      {"start-period", FlagKind::text},
                                      {"start-interval", FlagKind::text},
                                      {"retries", FlagKind::text}};
    const Flags flags = TRY(parse_flags(node, kKnown));
    health.check.test.assign(node.words.begin() + 1, node.words.end());
    health.check.test.insert(health.check.test.begin(), node.json ? "CMD" : "CMD-SHELL");
    const auto duration = [&](const std::string& name) -> Result<std::int64_t> {
        const std::string text = flags.text(name);
        if (text.empty()) return std::int64_t{0};
        const std::int64_t value = TRY_CONTEXT(parse_go_duration(text), "--{}", name);
        if (value == 0) return value;
        if (value < 1'000'000) return bad_input("interval {} cannot be less than 1ms", quoted(name));
        return value;
    };
    health.check.interval_ns = TRY(duration("interval"));
    health.check.timeout_ns = TRY(duration("timeout"));
    health.check.start_period_ns = TRY(duration("start-period"));
    health.check.start_interval_ns = TRY(duration("start-interval"));
    if (const std::string retries = flags.text("retries"); !retries.empty()) {
        const auto number = parse_int(retries);
        if (!number || *number < 0 || *number > 0x7FFFFFFF) {
            return bad_input("--retries cannot be negative or text: {}", quoted(retries));
        }
        health.check.retries = *number;
    }
    return Command(std::move(health));
}

Result<Command> parse_onbuild(Node& node) {
    TRY(no_flags(node));
    if (node.words.empty()) return needs_some(node);
    const std::string trigger = to_upper(node.trigger);
    if (trigger == "ONBUILD") return bad_input("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
    if (trigger == "MAINTAINER" || trigger == "FROM")
        return bad_input("{} isn't allowed as an ONBUILD trigger", trigger);
    OnbuildCommand onbuild;
    // The text after ONBUILD, with flags of the trigger as written; here-documents go with it.
    const std::string_view line = trim_space(node.original);
    onbuild.expression = trim_space(line.substr(node.keyword.size()));
    for (const auto& heredoc : node.heredocs) {
        if (!onbuild.expression.ends_with('\n')) onbuild.expression += "\n";
        onbuild.expression += heredoc.data + heredoc.name;
    }
    return Command(std::move(onbuild));
}

Result<Command> parse_arg(Node& node) {
    if (node.words.empty()) return needs_some(node);
    ArgCommand arg;
    for (const auto& word : node.words) {
        const auto [key, value] = cut(word, '=');
        if (value && key.empty()) return at_token(bad_input("ARG names can not be blank"), node, word);
        arg.args.push_back({std::string(key), value ? std::optional<std::string>(*value) : std::nullopt,
                            doc_comment(node.comments, key)});
    }
    return Command(std::move(arg));
}

template <class Pairs>
Result<Command> parse_pairs(Node& node) {
    TRY(no_flags(node));
    if (node.pairs.empty()) return needs_some(node);
    for (const auto& pair : node.pairs) {
        if (pair.key.empty()) return bad_input("{} names can not be blank", upper(node));
    }
    return Command(Pairs{std::move(node.pairs)});
}

template <class Text>
Result<Command> parse_text(Node& node) {
    TRY(no_flags(node));
    if (node.words.size() != 1) return needs_one(node);
    return Command(Text{std::move(node.words[0])});
}

template <class Words>
Result<Command> parse_shell_words(Node& node) {
    TRY(no_flags(node));
    Words command;
    command.prepend_shell = !node.json;
    command.words = std::move(node.words);
    if (!node.json && command.words.empty()) command.words.emplace_back();  // nothing is an empty line for the shell
    return Command(std::move(command));
}

Result<Command> parse_expose(Node& node) {
    TRY(no_flags(node));
    if (node.words.empty()) return needs_some(node);
    ExposeCommand expose{std::move(node.words)};
    std::sort(expose.ports.begin(), expose.ports.end());
    return Command(std::move(expose));
}

Result<Command> parse_volume(Node& node) {
    TRY(no_flags(node));
    if (node.words.empty()) return needs_some(node);
    VolumeCommand volume;
    for (const auto& word : node.words) {
        const std::string_view path = trim_space(word);
        if (path.empty()) return bad_input("VOLUME specified can not be an empty string");
        volume.paths.emplace_back(path);
    }
    return Command(std::move(volume));
}

Result<Command> parse_shell(Node& node) {
    TRY(no_flags(node));
    if (node.words.empty()) return needs_some(node);
    if (!node.json) {
        return bad_input("SHELL requires the arguments to be in JSON form")
            .with_hint("write SHELL [\"/bin/bash\", \"-c\"]");
    }
    return Command(ShellCommand{std::move(node.words)});
}

Result<Command> parse_stopsignal(Node& node) {
    if (node.words.size() != 1) return needs_one(node);
    return Command(StopsignalCommand{std::move(node.words[0])});
}

using ParseCommand = Result<Command> (*)(Node&);
const std::map<std::string_view, ParseCommand>& parsers() {
    static const std::map<std::string_view, ParseCommand> kParsers = {
        {"add", parse_add},
        {"arg", parse_arg},
        {"cmd", parse_shell_words<CmdCommand>},
        {"copy", parse_copy},
        {"entrypoint", parse_shell_words<EntrypointCommand>},
        {"env", parse_pairs<EnvCommand>},
        {"expose", parse_expose},
        {"healthcheck", parse_healthcheck},
        {"label", parse_pairs<LabelCommand>},
        {"maintainer", parse_text<MaintainerCommand>},
        {"onbuild", parse_onbuild},
        {"run", parse_run},
        {"shell", parse_shell},
        {"stopsignal", parse_stopsignal},
        {"user", parse_text<UserCommand>},
        {"volume", parse_volume},
        {"workdir", parse_text<WorkdirCommand>}};
    return kParsers;
}

bool is_stage_name(std::string_view name) {
    if (name.empty() || name[0] < 'a' || name[0] > 'z') return false;
    return std::all_of(name.begin(), name.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
    });
}

Result<Stage> stage_of(const Node& node) {
    static const KnownFlags kKnown = {{"platform", FlagKind::text}};
    Stage stage;
    if (node.words.size() == 3 && equal_ignoring_case(node.words[1], "as")) {
        stage.as_keyword = node.words[1];
        stage.written_name = node.words[2];
        stage.name = to_lower(stage.written_name);
        if (!is_stage_name(stage.name)) {
            return at_token(
                bad_input("invalid name for build stage: {}, name can't start with a number or contain symbols",
                          quoted(stage.written_name)),
                node, stage.written_name);
        }
    } else if (node.words.size() != 1) {
        return bad_input("FROM requires either one or three arguments")
            .with_hint("write FROM IMAGE or FROM IMAGE AS NAME");
    }
    const Flags flags = TRY(parse_flags(node, kKnown));
    stage.base_name = node.words[0];
    stage.platform = flags.text("platform");
    stage.source_code = trim_space(node.original);
    stage.keyword = node.keyword;
    stage.description = doc_comment(node.comments, stage.name);
    stage.comments = node.comments;
    stage.location = node.lines;
    return stage;
}

std::string trimmed(std::string text) {
    const std::string_view inner = trim_space(text);
    if (inner.size() == text.size()) return text;
    return std::string(inner);
}

Error on_line(Error error, const Node& node) {
    return located(fit_to_show(std::move(error)), *node.file_name, node.lines)
        .with_context(fmt::format("dockerfile parse error on line {}", node.lines.first));
}

}  // namespace

std::string doc_comment(const std::vector<std::string>& comments, std::string_view name) {
    if (name.empty()) return {};
    for (const std::string& comment : comments) {
        if (comment.starts_with(name) && comment.size() > name.size() && comment[name.size()] == ' ') {
            return comment.substr(name.size() + 1);
        }
    }
    return {};
}

const std::vector<std::string>& instruction_names() {
    static const std::vector<std::string> kNames = [] {
        std::vector<std::string> names = {"FROM"};
        for (const auto& [name, parser] : parsers()) names.push_back(to_upper(name));
        return names;
    }();
    return kNames;
}

Result<Instruction> parse_instruction(Node node) {
    const auto parser = parsers().find(node.command);
    if (node.mistake) return on_line(*node.mistake, node);
    if (parser == parsers().end()) {
        const auto near = nearest(to_upper(node.keyword), instruction_names());
        const std::string also = near ? " (did you mean " + *near + "?)" : "";
        const SourceRange range = range_in_file(node, node.original.find(node.keyword), node.keyword.size());
        return on_line(bad_input("unknown instruction: {}{}", shown(node.keyword), also).with_detail(range), node);
    }
    auto command = parser->second(node);
    if (!command) return on_line(command.error(), node);
    Instruction instruction;
    instruction.command = std::move(*command);
    instruction.name = std::move(node.command);
    instruction.keyword = std::move(node.keyword);
    instruction.original = trimmed(std::move(node.original));
    instruction.flags = std::move(node.flags);
    instruction.comments = std::move(node.comments);
    instruction.location = node.lines;
    return instruction;
}

Result<Stage> parse_from(Node node) {
    auto stage = stage_of(node);
    if (!stage) return on_line(std::move(stage).error(), node);
    return stage;
}

}  // namespace cooper::dockerfile
