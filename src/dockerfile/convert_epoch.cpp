#include "dockerfile/convert_epoch.hpp"

#include "base/text.hpp"
#include "dockerfile/convert_context.hpp"
#include "frontend/git_ref.hpp"

namespace cooper::dockerfile {

namespace {

constexpr std::string_view kKey = "SOURCE_DATE_EPOCH";

Error one_add() {
    return bad_input("a stage that is {} must have exactly one ADD, of a URL or a git repository", kKey);
}

// A stage is read on its own: it may not need anything that only a build would know.
class StageReader {
public:
    StageReader(const Stage& stage, const EpochScope& scope) : stage_(stage), scope_(scope), env_(scope.global_args) {}

    Result<llb::State> read() {
        if (TRY(scope_.lex.expand_word(stage_.base_name, env_)) != "scratch") {
            return bad_input("a stage that is {} must begin with FROM scratch", kKey);
        }
        std::optional<llb::State> state;
        for (const Instruction& instruction : stage_.commands) {
            if (const auto* arg = std::get_if<ArgCommand>(&instruction.command)) {
                TRY(take_args(*arg));
            } else if (const auto* add = std::get_if<AddCommand>(&instruction.command)) {
                if (state) return one_add();
                state = TRY(source_of(*add));
            } else {
                return bad_input("a stage that is {} may have ARG and ADD only: {} is neither", kKey,
                                 to_upper(instruction.name));
            }
        }
        if (!state) return one_add();
        return std::move(*state);
    }

private:
    Result<> take_args(const ArgCommand& command) {
        for (const ArgCommand::Arg& arg : command.args) {
            if (const auto given = scope_.options.build_args.find(arg.key); given != scope_.options.build_args.end()) {
                env_.set(arg.key, given->second);
            } else if (arg.value) {
                env_.set(arg.key, TRY(scope_.lex.expand_word(*arg.value, env_)));
            }
        }
        return {};
    }

    Result<llb::State> source_of(const AddCommand& add) const {
        if (!add.files.contents.empty() || add.files.paths.size() != 1) return one_add();
        const std::string source = TRY(scope_.lex.expand_word(add.files.paths.front(), env_));
        const std::string checksum = TRY(scope_.lex.expand_word(add.checksum, env_));
        const auto git = TRY(frontend::parse_git_ref(source));
        if (git && !git->indistinguishable_from_local) {
            return llb::git(git->remote, {.ref = git->ref, .checksum = checksum.empty() ? git->checksum : checksum});
        }
        if (!source.starts_with("http://") && !source.starts_with("https://")) return one_add();
        llb::HttpOptions http{.filename = url_file_name(source)};
        if (!checksum.empty()) http.checksum = TRY(Digest::parse(checksum)).to_string();
        return llb::http(source, std::move(http));
    }

    const Stage& stage_;
    const EpochScope& scope_;
    llb::EnvList env_;
};

}  // namespace

Result<EpochSource> epoch_source(const std::string& value, const EpochScope& scope, frontend::Bridge& bridge,
                                 std::optional<Lines>& stage_lines, Stop stop) {
    if (value == "context") {
        // The time of a directory of the client is nobody's decision: it says none.
        const BuildContext& context = scope.options.context;
        return EpochSource{context.remote.value_or(llb::scratch()),
                           internal_name("resolve main build context metadata")};
    }
    // What is no name of a context may still be one of a stage.
    const auto named = find_named_context(scope.options, value, scope.platform);
    if (named && *named) {
        LoadedContext loaded = TRY(load_named_context(**named, scope.options, nullptr, bridge, std::move(stop)));
        return EpochSource{std::move(loaded.state),
                           internal_name(fmt::format("resolve {} named context {}", kKey, value))};
    }
    for (const Stage& stage : scope.stages) {
        if (stage.name.empty() || !equal_ignoring_case(stage.name, value)) continue;
        auto state = StageReader(stage, scope).read();
        if (!state) {
            stage_lines = stage.location;
            return std::move(state).error();
        }
        return EpochSource{std::move(*state),
                           internal_name(fmt::format("resolve {} source stage {}", kKey, stage.name))};
    }
    return bad_input("invalid {}: {}", kKey, value)
        .with_hint("give seconds since 1970, \"context\", or the name of a build context or stage");
}

}  // namespace cooper::dockerfile
