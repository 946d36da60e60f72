// One instruction onto the state and image of its stage. Split by kind: convert_config.cpp (what only
// changes the image), convert_run.cpp, convert_copy.cpp. Used by to_llb.cpp alone.
#pragma once

#include "dockerfile/convert_state.hpp"
#include "dockerfile/lint_text.hpp"
#include "dockerfile/shell_lex.hpp"

#include <string>
#include <string_view>

namespace cooper::dockerfile {

struct CopyRequest;

// What all stages share while they are converted.
struct DispatchShared {
    const ConvertOptions& options;
    const llb::EnvList& global_args;
    const oci::Platform& target_platform;
    char escape = '\\';
    const llb::State& build_context;
    llb::SourceFile source;
    std::optional<llb::ProxyEnv> proxy;
    std::optional<std::int64_t> epoch_seconds;
    Linter& linter;
    Budget& budget;
    const codec::PatternMatcher& ignored;  // by the ignore file of the main context
};

class Dispatcher {
public:
    Dispatcher(const DispatchShared& shared, StageState& stage) : shared_(shared), stage_(stage) {}

    // Environment, directory, user and network of the base, before the first instruction.
    Result<> start();
    Result<> run(StageCommand& command);

private:
    // convert_config.cpp
    Result<> dispatch(EnvCommand& env);
    Result<> dispatch(LabelCommand& label);
    Result<> dispatch(MaintainerCommand& maintainer);
    Result<> dispatch(WorkdirCommand& workdir);
    Result<> dispatch(UserCommand& user);
    Result<> dispatch(CmdCommand& cmd);
    Result<> dispatch(EntrypointCommand& entrypoint);
    Result<> dispatch(HealthcheckCommand& healthcheck);
    Result<> dispatch(ExposeCommand& expose);
    Result<> dispatch(VolumeCommand& volume);
    Result<> dispatch(StopsignalCommand& signal);
    Result<> dispatch(ShellCommand& shell);
    Result<> dispatch(ArgCommand& arg);
    Result<> dispatch(OnbuildCommand& onbuild);
    void set_workdir(std::string_view path);
    [[nodiscard]] Result<> check_variables() const;

    // convert_run.cpp
    Result<> dispatch(RunCommand& run);
    Result<std::optional<llb::RunMount>> run_mount(const Mount& mount, StageState* source);
    Result<std::vector<std::string>> heredoc_words(const RunCommand& run, llb::RunOptions& options, std::string& shown);

    // convert_copy.cpp
    Result<> dispatch(CopyCommand& copy);
    Result<> dispatch(AddCommand& add);
    Result<> expand_sources(FileSources& files);
    Result<> copy_files(const CopyRequest& request);
    void lint_sources(const FileSources& files);

    // convert_dispatch.cpp: words, expanded with the stage's environment. Variables that are not there are
    // told to the linter, those of expand_words aside.
    Result<std::string> expand(std::string_view word);
    Result<> expand_in_place(std::string& word);
    Result<std::vector<std::string>> expand_words(std::string_view word);
    Result<std::string> expand_heredoc(std::string_view body);
    Result<std::vector<Mount>> expand_mounts(const RunCommand& run);
    // As a step name shows it: of a RUN, quotes and unset variables stay as they are.
    enum class Unset : std::uint8_t { empty, verbatim };
    Result<std::string> expand_with(const ShellLex& lex, std::string_view word);
    [[nodiscard]] std::string expand_for_display(std::string_view text, const llb::EnvList& env, Unset unset) const;
    [[nodiscard]] std::string named_step(std::string_view text);
    [[nodiscard]] llb::Constraints constraints(std::string name) const;
    void commit(std::string created_by, bool with_layer);
    [[nodiscard]] std::vector<std::string> with_shell(const std::vector<std::string>& words) const;
    [[nodiscard]] std::string run_history(const std::vector<std::string>& args) const;
    [[nodiscard]] const oci::Platform& platform() const;
    [[nodiscard]] std::optional<std::int64_t> epoch_ns() const;

    void charge_environment() const;

    const DispatchShared& shared_;
    StageState& stage_;
    StageCommand* command_ = nullptr;
};

[[nodiscard]] std::vector<llb::Range> to_llb_ranges(const Lines& lines);

}  // namespace cooper::dockerfile
