// Node: one operation of a State before it has bytes. Built by state.cpp, read by builder_marshal.cpp.
#pragma once

#include "llb/state.hpp"

#include <functional>
#include <variant>
#include <vector>

namespace cooper::llb {

struct SourceNode {
    SourceOp op;
    bool platform_specific = false;
};
struct ExecNode {
    State base;
    RunOptions options;
};
struct FileNode {
    State base;
    FileActions actions;
};
struct MergeNode {
    std::vector<Output> inputs;
};
struct DiffNode {
    Output lower;
    Output upper;
};
struct BuildNode {
    Output definition;
    std::string filename;
};
struct DeferredNode {
    std::function<State()> make;
    std::optional<Output> made;
};
// From another definition: bytes are kept as they are.
struct RawNode {
    std::string bytes;
    std::vector<Output> inputs;
};

class Node {
public:
    using Body = std::variant<SourceNode, ExecNode, FileNode, MergeNode, DiffNode, BuildNode, DeferredNode, RawNode>;

    Node(Body what, Constraints beside) : body(std::move(what)), constraints(std::move(beside)) {}
    Node(const Node&) = delete;
    Node& operator=(const Node&) = delete;
    ~Node();

    // Outputs this node needs, in the order in which BuildKit's client walks them.
    [[nodiscard]] std::vector<Output> dependencies() const;

    static std::vector<FileActions::Step>& steps(FileActions& actions) { return actions.steps_; }
    static const std::vector<FileActions::Step>& steps(const FileActions& actions) { return actions.steps_; }
    static const std::string& user(const State& state) { return state.user_; }
    static const std::string& hostname(const State& state) { return state.hostname_; }
    static NetMode network(const State& state) { return state.network_; }
    static void drop_output(State& state, std::vector<std::shared_ptr<Node>>& into);

    Body body;
    Constraints constraints;

private:
    void take_children(std::vector<std::shared_ptr<Node>>& into);
};

// Follows deferred nodes (making them) to a real one.
[[nodiscard]] Output resolve(Output output);

// Mounts of an exec in marshalling order, the root among them. `place` is the value Output::mount has.
struct PlacedMount {
    std::size_t place = 0;
    RunMount mount;
};
[[nodiscard]] std::vector<PlacedMount> placed_mounts(const ExecNode& exec);
[[nodiscard]] inline bool has_output(const RunMount& mount) {
    return !mount.no_output && !mount.readonly && !mount.cache && !mount.tmpfs_size_bytes;
}

}  // namespace cooper::llb
