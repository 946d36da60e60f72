#include "base/text.hpp"
#include "cli/command.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fmt/format.h>

namespace cooper::cli {

namespace {

// The shells ask the program itself: `cooper __complete WORD…` prints candidates for the last word.
constexpr std::string_view kBash = R"sh(# cooper: bash completion. Use: source <(cooper completion bash)
_cooper() {
    local IFS=$'\n'
    COMPREPLY=($(cooper __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
    [ ${#COMPREPLY[@]} -eq 0 ] && COMPREPLY=($(compgen -f -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o filenames -F _cooper cooper
)sh";
constexpr std::string_view kZsh = R"sh(#compdef cooper
# cooper: zsh completion. Use: source <(cooper completion zsh)
_cooper() {
    local -a candidates
    candidates=("${(@f)$(cooper __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "${candidates[1]}" ]]; then compadd -- "${candidates[@]}"; else _files; fi
}
compdef _cooper cooper
)sh";
constexpr std::string_view kFish = R"sh(# cooper: fish completion. Use: cooper completion fish | source
function __cooper_complete
    set -l words (commandline -opc) (commandline -ct)
    cooper __complete $words[2..-1] 2>/dev/null
end
complete -c cooper -a '(__cooper_complete)'
)sh";

Action setup_completion(CLI::App& app) {
    auto shell = std::make_shared<std::string>();
    app.add_option("SHELL", *shell, "bash, zsh or fish")->required()->check(CLI::IsMember({"bash", "zsh", "fish"}));
    return [shell](Session& /*session*/) -> Result<int> {
        fmt::print("{}", *shell == "bash" ? kBash : *shell == "zsh" ? kZsh : kFish);
        return 0;
    };
}

bool takes_image(const std::string& command) {
    static const std::vector<std::string> kNames = {"run",     "rmi",     "tag",    "push", "save",
                                                    "inspect", "history", "layers", "diff", "blame"};
    return std::find(kNames.begin(), kNames.end(), command) != kNames.end();
}

Result<int> complete(const std::vector<std::string>& words, Session& session) {
    const std::string last = words.empty() ? "" : words.back();
    std::vector<std::string> candidates;
    const auto commands = all_commands();
    if (words.size() <= 1) {
        for (const auto& command : commands) {
            if (!command.hidden) candidates.push_back(command.name);
        }
    } else {
        const auto found =
            std::find_if(commands.begin(), commands.end(), [&](const auto& c) { return c.name == words[0]; });
        if (found == commands.end()) return 0;
        if (last.starts_with('-')) {
            CLI::App app;
            found->setup(app);
            for (const CLI::Option* option : app.get_options()) {
                if (option->get_group().empty()) continue;
                for (const auto& name : option->get_lnames()) candidates.push_back("--" + name);
            }
        } else if (words[0] == "why" && words.size() == 2) {
            const auto engine = session.open_engine();
            if (!engine) return 0;
            const auto answer = (*engine)->why("");
            if (!answer) return 0;
            for (const auto& miss : answer->misses) {
                if (miss.number > 0) candidates.push_back(fmt::format("{}/{}", miss.number, miss.count));
            }
        } else if (takes_image(words[0])) {
            const auto engine = session.open_engine();
            if (!engine) return 0;
            for (const auto& image : TRY((*engine)->list_images())) {
                std::string name = image.name;
                if (name.starts_with("docker.io/library/")) name.erase(0, 18);
                candidates.push_back(name);
            }
        }
    }
    for (const auto& candidate : candidates) {
        if (candidate.starts_with(last)) fmt::print("{}\n", candidate);
    }
    return 0;
}

Action setup_complete(CLI::App& app) {
    app.prefix_command();
    return [&app](Session& session) { return complete(app.remaining(), session); };
}

}  // namespace

std::vector<Command> completion_commands() {
    return {{"completion", "Print the completion script of a shell", "  source <(cooper completion bash)\n",
             setup_completion, false},
            {"__complete", "", "", setup_complete, true}};
}

}  // namespace cooper::cli
