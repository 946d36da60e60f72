#include "llb/state.hpp"

#include "base/text.hpp"
#include "llb/detail/node.hpp"

#include <algorithm>
#include <limits>

namespace cooper::llb {

void EnvList::set(std::string_view key, std::string_view value) {
    erase(key);
    entries_.emplace_back(key, value);
}

void EnvList::erase(std::string_view key) {
    std::erase_if(entries_, [&](const auto& entry) { return entry.first == key; });
}

std::optional<std::string_view> EnvList::get(std::string_view key) const {
    for (const auto& [name, value] : entries_) {
        if (name == key) return value;
    }
    return std::nullopt;
}

std::vector<std::string> EnvList::to_array() const {
    std::vector<std::string> out;
    out.reserve(entries_.size());
    for (const auto& [key, value] : entries_) out.push_back(key + "=" + value);
    return out;
}

namespace {

std::variant<std::string, std::uint32_t> parse_user(std::string_view text) {
    if (text == "root") return std::uint32_t{0};
    // strconv.ParseInt(…, 32): signs are allowed, and so negative ids wrap as they do in Go.
    const bool plus = text.starts_with('+');
    const auto id = parse_int(plus ? text.substr(1) : text);
    if (id && *id >= std::numeric_limits<std::int32_t>::min() && *id <= std::numeric_limits<std::int32_t>::max()) {
        return static_cast<std::uint32_t>(*id);
    }
    return std::string(text);
}

}  // namespace

Owner Owner::parse(std::string_view text) {
    const auto [user, group] = cut(text, ':');
    Owner owner;
    owner.user = parse_user(user);
    if (group) owner.group = parse_user(*group);
    return owner;
}

Owner Owner::ids(std::uint32_t uid, std::uint32_t gid) {
    Owner owner;
    owner.user = uid;
    owner.group = gid;
    return owner;
}

FileActions& FileActions::copy(const State& from, std::string src, std::string dest, CopyOptions options) {
    CopyAction copy;
    copy.src = std::move(src);
    copy.dest = std::move(dest);
    copy.mode = options.mode.value_or(-1);
    if (!options.mode_str.empty()) {
        copy.mode = 0;
        copy.mode_str = std::move(options.mode_str);
    }
    copy.follow_symlink = options.follow_symlinks;
    copy.dir_copy_contents = options.dir_contents_only;
    copy.attempt_unpack = options.attempt_unpack;
    copy.create_dest_path = options.create_dest_path;
    copy.allow_wildcard = options.allow_wildcard;
    copy.allow_empty_wildcard = options.allow_empty_wildcard;
    copy.timestamp = options.created_ns.value_or(-1);
    copy.include_patterns = std::move(options.include_patterns);
    copy.exclude_patterns = std::move(options.exclude_patterns);
    copy.always_replace_existing = options.always_replace_existing;
    copy.required_paths = std::move(options.required_paths);
    Step& step = steps_.emplace_back();
    step.action.action = std::move(copy);
    step.owner = std::move(options.owner);
    step.from = from.output();
    step.from_dir = from.dir();
    return *this;
}

FileActions& FileActions::mkdir(std::string path, std::int32_t mode, bool make_parents, std::optional<Owner> owner,
                                std::optional<std::int64_t> created_ns) {
    Step& step = steps_.emplace_back();
    step.action.action = MkDirAction{std::move(path), mode & 0777, make_parents, std::nullopt, created_ns.value_or(-1)};
    step.owner = std::move(owner);
    return *this;
}

FileActions& FileActions::mkfile(std::string path, std::int32_t mode, std::string data, std::optional<Owner> owner,
                                 std::optional<std::int64_t> created_ns) {
    Step& step = steps_.emplace_back();
    step.action.action =
        MkFileAction{std::move(path), mode & 0777, std::move(data), std::nullopt, created_ns.value_or(-1)};
    step.owner = std::move(owner);
    return *this;
}

FileActions& FileActions::rm(std::string path, bool allow_not_found, bool allow_wildcard) {
    steps_.emplace_back().action.action = RmAction{std::move(path), allow_not_found, allow_wildcard};
    return *this;
}

FileActions& FileActions::symlink(std::string old_path, std::string new_path, std::optional<Owner> owner,
                                  std::optional<std::int64_t> created_ns) {
    Step& step = steps_.emplace_back();
    step.action.action = SymlinkAction{std::move(old_path), std::move(new_path), std::nullopt, created_ns.value_or(-1)};
    step.owner = std::move(owner);
    return *this;
}

namespace {

// Only sources and commands hand their platform on; file operations have none.
const std::optional<Platform>& platform_of(const Output& output) {
    static const std::optional<Platform> kNone;
    if (!output.node) return kNone;
    const Node& node = *output.node;
    const bool has = std::holds_alternative<SourceNode>(node.body) || std::holds_alternative<ExecNode>(node.body);
    return has ? node.constraints.platform : kNone;
}

}  // namespace

State::State(Output output) : output_(std::move(output)) { platform_ = platform_of(output_); }

State State::with_output(Output output) const {
    State next = *this;
    if (const auto& platform = platform_of(output)) next.platform_ = platform;
    next.output_ = std::move(output);
    return next;
}

void State::add_env(std::string_view key, std::string_view value) {
    if (env_.use_count() > 1) env_ = std::make_shared<EnvList>(*env_);
    env_->set(key, value);
}

State State::run(RunOptions options) const {
    const bool readonly_root = options.readonly_root;
    Constraints constraints = std::move(options.constraints);
    options.constraints = {};
    auto node = std::make_shared<Node>(ExecNode{*this, std::move(options)}, std::move(constraints));
    State next = with_output({node, 0});
    // A read-only root gives nothing new, but the command must still be reachable through its mounts.
    if (readonly_root) next.output_ = output_;
    return next;
}

State State::run_mount(std::size_t mount) const {
    const auto* exec = output_.node ? std::get_if<ExecNode>(&output_.node->body) : nullptr;
    if (exec == nullptr || mount >= exec->options.mounts.size()) return {};
    const RunMount& wanted = exec->options.mounts[mount];
    if (wanted.readonly) return State(wanted.source);
    return State(Output{output_.node, mount + 1});
}

State State::file(FileActions actions, Constraints constraints) const {
    auto node = std::make_shared<Node>(FileNode{*this, std::move(actions)}, std::move(constraints));
    return with_output({std::move(node), 0});
}

State merge(const std::vector<State>& inputs, Constraints constraints) {
    MergeNode node;
    const State* only = nullptr;
    for (const State& input : inputs) {
        if (input.output().is_scratch()) continue;
        node.inputs.push_back(input.output());
        only = &input;
    }
    if (node.inputs.empty()) return {};
    if (node.inputs.size() == 1) return *only;
    return State(Output{std::make_shared<Node>(std::move(node), std::move(constraints)), 0});
}

State diff(const State& lower, const State& upper, Constraints constraints) {
    if (lower.output().is_scratch()) return upper.output().is_scratch() ? State{} : upper;
    return State(Output{std::make_shared<Node>(DiffNode{lower.output(), upper.output()}, std::move(constraints)), 0});
}

State build(const State& definition, std::string filename, Constraints constraints) {
    return State(
        Output{std::make_shared<Node>(BuildNode{definition.output(), std::move(filename)}, std::move(constraints)), 0});
}

State deferred(std::function<State()> make) {
    return State(Output{std::make_shared<Node>(DeferredNode{std::move(make), std::nullopt}, Constraints{}), 0});
}

Output resolve(Output output) {
    while (output.node) {
        auto* late = std::get_if<DeferredNode>(&output.node->body);
        if (late == nullptr) break;
        if (!late->made) late->made = late->make().output();
        output = Output(*late->made);
    }
    return output;
}

std::vector<PlacedMount> placed_mounts(const ExecNode& exec) {
    std::vector<PlacedMount> out;
    out.reserve(exec.options.mounts.size() + 1);
    PlacedMount root;
    root.mount.target = kRootMount;
    root.mount.source = exec.base.output();
    root.mount.readonly = exec.options.readonly_root;
    out.push_back(std::move(root));
    for (std::size_t i = 0; i < exec.options.mounts.size(); ++i) out.push_back({i + 1, exec.options.mounts[i]});
    std::ranges::stable_sort(out, {},
                             [](const PlacedMount& placed) -> const std::string& { return placed.mount.target; });
    return out;
}

std::vector<Output> Node::dependencies() const {
    std::vector<Output> out;
    const auto add = [&](const Output& output) {
        Output real = resolve(output);
        if (real.node && std::ranges::find(out, real) == out.end()) out.push_back(std::move(real));
    };
    if (const auto* exec = std::get_if<ExecNode>(&body)) {
        for (const PlacedMount& placed : placed_mounts(*exec)) add(placed.mount.source);
    } else if (const auto* file = std::get_if<FileNode>(&body)) {
        add(file->base.output());
        const auto& all = steps(file->actions);
        for (auto step = all.rbegin(); step != all.rend(); ++step) add(step->from);
    } else if (const auto* merged = std::get_if<MergeNode>(&body)) {
        for (const Output& input : merged->inputs) add(input);
    } else if (const auto* difference = std::get_if<DiffNode>(&body)) {
        add(difference->lower);
        add(difference->upper);
    } else if (const auto* nested = std::get_if<BuildNode>(&body)) {
        add(nested->definition);
    } else if (const auto* raw = std::get_if<RawNode>(&body)) {
        for (const Output& input : raw->inputs) add(input);
    }
    return out;
}

void Node::drop_output(State& state, std::vector<std::shared_ptr<Node>>& into) {
    if (state.output_.node) into.push_back(std::move(state.output_.node));
    state.output_.node = nullptr;
}

void Node::take_children(std::vector<std::shared_ptr<Node>>& into) {
    const auto take = [&](Output& output) {
        if (output.node) into.push_back(std::move(output.node));
        output.node = nullptr;
    };
    if (auto* exec = std::get_if<ExecNode>(&body)) {
        drop_output(exec->base, into);
        for (RunMount& mount : exec->options.mounts) take(mount.source);
    } else if (auto* file = std::get_if<FileNode>(&body)) {
        drop_output(file->base, into);
        for (auto& step : steps(file->actions)) take(step.from);
    } else if (auto* merged = std::get_if<MergeNode>(&body)) {
        for (Output& input : merged->inputs) take(input);
    } else if (auto* difference = std::get_if<DiffNode>(&body)) {
        take(difference->lower);
        take(difference->upper);
    } else if (auto* nested = std::get_if<BuildNode>(&body)) {
        take(nested->definition);
    } else if (auto* late = std::get_if<DeferredNode>(&body)) {
        if (late->made) take(*late->made);
    } else if (auto* raw = std::get_if<RawNode>(&body)) {
        for (Output& input : raw->inputs) take(input);
    }
}

// Chains are as long as a Dockerfile; destroying them by recursion would eat the stack.
Node::~Node() {
    std::vector<std::shared_ptr<Node>> dying;
    take_children(dying);
    while (!dying.empty()) {
        const std::shared_ptr<Node> node = std::move(dying.back());
        dying.pop_back();
        if (node.use_count() == 1) node->take_children(dying);
    }
}

}  // namespace cooper::llb
