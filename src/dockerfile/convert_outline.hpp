// Outline: what a build of one target takes: arguments, secrets, SSH agents. Collected
// while instructions are converted: of the arguments before the first FROM only those that a stage uses.
// Pure; one thread.
#pragma once

#include "dockerfile/instructions.hpp"
#include "dockerfile/source_text.hpp"

#include <map>
#include <set>
#include <string>
#include <vector>

namespace cooper::dockerfile {

struct OutlineArg {
    std::string name;
    std::string description;
    std::string value;
    Lines lines;
};
// A secret or an SSH agent.
struct OutlineMount {
    std::string name;
    bool required = false;
    Lines lines;
};
struct Outline {
    std::string name;  // of the target; empty when it has none
    std::string description;
    std::vector<OutlineArg> args;  // each list in order of lines
    std::vector<OutlineMount> secrets;
    std::vector<OutlineMount> ssh;
};

// What one stage contributes, or the global scope.
struct OutlineScope {
    struct Arg {
        OutlineArg arg;
        std::set<std::string> uses;  // other arguments its default is made of
    };
    std::map<std::string, Arg> args;
    std::set<std::string> used;
    std::map<std::string, OutlineMount> secrets;
    std::map<std::string, OutlineMount> ssh;

    void add_arg(const ArgCommand::Arg& given, std::string value, const Lines& lines, std::set<std::string> uses);
    // The first mention of an id counts.
    static void add_mount(std::map<std::string, OutlineMount>& mounts, const std::string& id, bool required,
                          const Lines& lines);
};

// `scopes`: of the target and of all stages it needs, the nearest first.
[[nodiscard]] Outline merge_outline(const OutlineScope& global, const std::vector<const OutlineScope*>& scopes);

}  // namespace cooper::dockerfile
