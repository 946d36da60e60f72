// State to Definition: every node becomes an Op whose inputs are the digests of others, depth first.
#include "llb/detail/node.hpp"
#include "llb/marshal.hpp"
#include "llb/state.hpp"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

namespace cooper::llb {

namespace {

void merge_metadata(OpMetadata& into, const OpMetadata& from) {
    into.ignore_cache = into.ignore_cache || from.ignore_cache;
    for (const auto& [key, value] : from.description) into.description[key] = value;
    if (from.export_cache) into.export_cache = from.export_cache;
    for (const auto& [cap, on] : from.caps) into.caps[cap] = true;
    if (from.progress_group) into.progress_group = from.progress_group;
    if (from.linux_resources) into.linux_resources = from.linux_resources;
}

class Marshaller {
public:
    explicit Marshaller(const Platform& platform) : platform_(platform) {}

    Result<Definition> run(const State& state) {
        const Output target = resolve(state.output());
        if (target.is_scratch()) return std::move(definition_);
        TRY(visit(target.node));
        Op terminal;
        terminal.inputs.push_back(input_of(target));
        definition_.ops.push_back(marshal(terminal));
        return std::move(definition_);
    }

private:
    struct Pending {
        std::shared_ptr<Node> node;
        std::vector<Output> inputs;
        std::size_t next = 0;
    };

    Result<> visit(const std::shared_ptr<Node>& target) {
        std::vector<Pending> stack;
        stack.push_back({target, target->dependencies()});
        while (!stack.empty()) {
            Pending& top = stack.back();
            if (top.next < top.inputs.size()) {
                const std::shared_ptr<Node> input = top.inputs[top.next++].node;
                if (!digests_.contains(input.get())) stack.push_back({input, input->dependencies()});
                continue;
            }
            if (!digests_.contains(top.node.get())) TRY(emit(*top.node));
            stack.pop_back();
        }
        return {};
    }

    Result<> emit(const Node& node) {
        std::string bytes;
        if (const auto* raw = std::get_if<RawNode>(&node.body)) {
            bytes = raw->bytes;
        } else {
            Op op;
            op.constraints.emplace();
            TRY(std::visit([&](const auto& body) { return fill(op, body, node.constraints); }, node.body));
            bytes = marshal(op);
        }
        const Digest digest = op_digest(bytes);
        digests_.emplace(&node, digest);
        const std::string key = digest.to_string();
        merge_metadata(definition_.metadata[key], node.constraints.metadata);
        if (node.constraints.source) add_location(key, node.constraints);
        if (emitted_.insert(digest).second) definition_.ops.push_back(std::move(bytes));
        return {};
    }

    void add_location(const std::string& key, const Constraints& constraints) {
        if (!definition_.source) definition_.source.emplace();
        std::vector<SourceInfo>& infos = definition_.source->infos;
        auto found = sources_.find(constraints.source.get());
        if (found == sources_.end()) {
            found = sources_.emplace(constraints.source.get(), static_cast<std::int32_t>(infos.size())).first;
            infos.push_back(*constraints.source);
        }
        Location location{found->second, constraints.ranges};
        std::vector<Location>& list = definition_.source->locations[key];
        if (std::ranges::find(list, location) == list.end()) list.push_back(std::move(location));
    }

    [[nodiscard]] Input input_of(const Output& output) const {
        const Output real = resolve(output);
        Input input{digests_.at(real.node.get()), 0};
        if (const auto* exec = std::get_if<ExecNode>(&real.node->body)) {
            for (const PlacedMount& placed : placed_mounts(*exec)) {
                if (placed.place == real.mount) break;
                if (has_output(placed.mount)) ++input.index;
            }
        } else {
            input.index = static_cast<std::int64_t>(real.mount);
        }
        return input;
    }

    // Index of an input of op, added unless there already; -1 for scratch.
    std::int64_t add_input(Op& op, const Output& output) const {
        const Output real = resolve(output);
        if (real.is_scratch()) return kEmpty;
        const Input input = input_of(real);
        const auto found = std::ranges::find(op.inputs, input);
        const std::int64_t index = found - op.inputs.begin();
        if (found == op.inputs.end()) op.inputs.push_back(input);
        return index;
    }

    Result<> fill(Op& op, const SourceNode& node, const Constraints& constraints) const {
        if (node.platform_specific) op.platform = constraints.platform.value_or(platform_);
        op.body = node.op;
        return {};
    }

    Result<> fill(Op& op, const ExecNode& node, const Constraints& constraints) const {
        const RunOptions& options = node.options;
        if (options.args.empty()) return bad_input("arguments are required to run a command");
        if (node.base.dir().empty()) return bad_input("working directory is required to run a command");
        op.platform = constraints.platform ? constraints.platform : node.base.platform();
        if (!op.platform) op.platform = platform_;
        ExecOp exec;
        EnvList env = node.base.env();
        std::vector<RunSsh> ssh = options.ssh;
        for (std::size_t i = 0; i < ssh.size(); ++i) {
            if (ssh[i].target.empty()) ssh[i].target = "/run/buildkit/ssh_agent." + std::to_string(i);
        }
        if (!ssh.empty() && !env.get("SSH_AUTH_SOCK")) env.set("SSH_AUTH_SOCK", ssh.front().target);
        exec.meta.args = options.args;
        exec.meta.env = env.to_array();
        exec.meta.cwd = node.base.dir();
        exec.meta.user = Node::user(node.base);
        exec.meta.proxy_env = options.proxy;
        exec.meta.extra_hosts = options.extra_hosts;
        exec.meta.hostname = Node::hostname(node.base);
        exec.meta.ulimit = options.ulimits;
        exec.meta.cgroup_parent = options.cgroup_parent;
        exec.meta.remove_mount_stubs_recursive = true;
        exec.meta.valid_exit_codes = options.valid_exit_codes;
        exec.network = options.network.value_or(Node::network(node.base));
        exec.security = options.security;
        exec.cdi_devices = options.devices;
        TRY(fill_mounts(op, exec, node));
        for (const RunSecret& secret : options.secrets) {
            if (secret.env) exec.secret_env.push_back({secret.id, *secret.env, secret.optional});
            if (!secret.target) continue;
            Mount mount = special_mount(*secret.target, MountType::secret);
            mount.secret = SecretOpt{secret.id, secret.uid, secret.gid, secret.mode, secret.optional};
            exec.mounts.push_back(std::move(mount));
        }
        for (const RunSsh& agent : ssh) {
            Mount mount = special_mount(agent.target, MountType::ssh);
            mount.ssh = SshOpt{agent.id, agent.uid, agent.gid, agent.mode, agent.optional};
            exec.mounts.push_back(std::move(mount));
        }
        op.body = std::move(exec);
        return {};
    }

    // BuildKit leaves output at 0 for secrets and agents although they give none; digests depend on it.
    static Mount special_mount(const std::string& target, MountType type) {
        Mount mount;
        mount.input = kEmpty;
        mount.output = 0;
        mount.dest = target;
        mount.type = type;
        return mount;
    }

    Result<> fill_mounts(Op& op, ExecOp& exec, const ExecNode& node) const {
        std::int64_t outputs = 0;
        for (const PlacedMount& placed : placed_mounts(node)) {
            const RunMount& from = placed.mount;
            if (from.tmpfs_size_bytes && !resolve(from.source).is_scratch()) {
                return bad_input("tmpfs mount on {} must use scratch", from.target);
            }
            Mount mount;
            mount.input = add_input(op, from.source);
            mount.selector = from.selector;
            mount.dest = from.target;
            mount.output = has_output(from) ? outputs++ : kSkipOutput;
            mount.readonly = from.readonly;
            mount.content_cache = from.content_cache;
            if (from.cache) {
                mount.type = MountType::cache;
                mount.cache = from.cache;
            }
            if (from.tmpfs_size_bytes) {
                mount.type = MountType::tmpfs;
                mount.tmpfs = TmpfsOpt{*from.tmpfs_size_bytes};
            }
            exec.mounts.push_back(std::move(mount));
        }
        return {};
    }

    static std::optional<UserOpt> user_of(const std::optional<std::variant<std::string, std::uint32_t>>& user,
                                          std::int64_t base) {
        if (!user) return std::nullopt;
        if (const auto* id = std::get_if<std::uint32_t>(&*user)) return UserOpt{*id};
        const std::string& name = std::get<std::string>(*user);
        // An empty name is "not given", which BuildKit's client writes as id 0.
        if (name.empty()) return UserOpt{std::uint32_t{0}};
        return UserOpt{NamedUser{name, base}};
    }

    static std::optional<ChownOpt> chown_of(const std::optional<Owner>& owner, std::int64_t base) {
        if (!owner) return std::nullopt;
        return ChownOpt{user_of(owner->user, base), user_of(owner->group, base)};
    }

    Result<> fill(Op& op, const FileNode& node, const Constraints& /*constraints*/) const {
        const auto& steps = Node::steps(node.actions);
        if (steps.empty()) return bad_input("a file operation needs at least one action");
        FileOp file;
        const std::int64_t base = add_input(op, node.base.output());
        for (const auto& step : steps) {
            FileAction action = step.action;
            const std::optional<ChownOpt> owner = chown_of(step.owner, base);
            const std::string& dir = node.base.dir();
            if (auto* copy = std::get_if<CopyAction>(&action.action)) {
                action.secondary_input = add_input(op, step.from);
                const std::string src = clean_path(copy->src);
                copy->src = join_path(src.front() == '/' ? "/" : step.from_dir, src);
                copy->dest = normalize_path(dir, copy->dest, TrailingSlash::keep);
                copy->owner = owner;
            } else if (auto* made_file = std::get_if<MkFileAction>(&action.action)) {
                made_file->path = normalize_path(dir, made_file->path, TrailingSlash::drop);
                made_file->owner = owner;
            } else if (auto* made_dir = std::get_if<MkDirAction>(&action.action)) {
                made_dir->path = normalize_path(dir, made_dir->path, TrailingSlash::drop);
                made_dir->owner = owner;
            } else if (auto* rm = std::get_if<RmAction>(&action.action)) {
                rm->path = normalize_path(dir, rm->path, TrailingSlash::drop);
            } else if (auto* link = std::get_if<SymlinkAction>(&action.action)) {
                link->new_path = normalize_path(dir, link->new_path, TrailingSlash::drop);
                link->owner = owner;
            }
            file.actions.push_back(std::move(action));
        }
        // Results of earlier actions are numbered after all inputs, whose number is known only now.
        const auto inputs = static_cast<std::int64_t>(op.inputs.size());
        for (std::size_t i = 0; i < file.actions.size(); ++i) {
            file.actions[i].input = i == 0 ? base : inputs + static_cast<std::int64_t>(i) - 1;
            file.actions[i].output = i + 1 == file.actions.size() ? 0 : kSkipOutput;
        }
        op.body = std::move(file);
        return {};
    }

    Result<> fill(Op& op, const MergeNode& node, const Constraints& /*constraints*/) const {
        MergeOp merge;
        for (const Output& input : node.inputs) {
            const Output real = resolve(input);
            if (real.is_scratch()) continue;
            merge.inputs.push_back(static_cast<std::int64_t>(op.inputs.size()));
            op.inputs.push_back(input_of(real));
        }
        op.body = std::move(merge);
        return {};
    }

    Result<> fill(Op& op, const DiffNode& node, const Constraints& /*constraints*/) const {
        const auto side = [&](const Output& output) -> std::int64_t {
            const Output real = resolve(output);
            if (real.is_scratch()) return kEmpty;
            op.inputs.push_back(input_of(real));
            return static_cast<std::int64_t>(op.inputs.size()) - 1;
        };
        DiffOp diff;
        diff.lower = side(node.lower);
        diff.upper = side(node.upper);
        op.body = diff;
        return {};
    }

    Result<> fill(Op& op, const BuildNode& node, const Constraints& /*constraints*/) const {
        const Output real = resolve(node.definition);
        if (real.is_scratch()) return bad_input("a build operation needs a state that holds its definition");
        BuildOp build;
        build.inputs.emplace(kDefinitionFile, 0);
        op.inputs.push_back(input_of(real));
        if (!node.filename.empty()) build.attrs.emplace(kDefinitionFileAttr, node.filename);
        op.body = std::move(build);
        return {};
    }

    Result<> fill(Op& /*op*/, const DeferredNode& /*node*/, const Constraints& /*constraints*/) const { UNREACHABLE(); }
    Result<> fill(Op& /*op*/, const RawNode& /*node*/, const Constraints& /*constraints*/) const { UNREACHABLE(); }

    const Platform& platform_;
    Definition definition_;
    std::unordered_map<const Node*, Digest> digests_;
    std::unordered_set<Digest> emitted_;
    std::unordered_map<const SourceInfo*, std::int32_t> sources_;
};

}  // namespace

Result<Definition> marshal_definition(const State& state, const Platform& platform) {
    return Marshaller(platform).run(state);
}

Result<State> from_definition(const Definition& definition) {
    if (definition.is_scratch()) return State{};
    std::unordered_map<Digest, std::shared_ptr<Node>> nodes;
    Op terminal;
    for (std::size_t i = 0; i < definition.ops.size(); ++i) {
        const Op op = TRY(parse_op(definition.ops[i]));
        if (i + 1 == definition.ops.size()) {
            terminal = op;
            break;
        }
        RawNode raw{definition.ops[i], {}};
        for (const Input& input : op.inputs) {
            const auto found = nodes.find(input.digest);
            if (found == nodes.end()) return bad_input("invalid missing input digest {}", input.digest.to_string());
            if (input.index < 0) return bad_input("invalid negative output index {} of an input", input.index);
            raw.inputs.push_back({found->second, static_cast<std::size_t>(input.index)});
        }
        const Digest digest = op_digest(raw.bytes);
        Constraints constraints;
        if (const auto found = definition.metadata.find(digest.to_string()); found != definition.metadata.end()) {
            constraints.metadata = found->second;
        }
        nodes.emplace(digest, std::make_shared<Node>(std::move(raw), std::move(constraints)));
    }
    if (terminal.inputs.empty()) return bad_input("invalid LLB with no inputs on last vertex");
    const Input& wanted = terminal.inputs.front();
    const auto found = nodes.find(wanted.digest);
    if (found == nodes.end() || wanted.index < 0) {
        return bad_input("invalid missing input digest {}", wanted.digest.to_string());
    }
    return State(Output{found->second, static_cast<std::size_t>(wanted.index)});
}

}  // namespace cooper::llb
