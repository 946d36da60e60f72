#include "ops/exec_op.hpp"

#include "base/text.hpp"
#include "ops/container.hpp"
#include "ops/copy_only_tree.hpp"
#include "ops/file_op.hpp"
#include "snapshot/chain_view.hpp"
#include "snapshot/layer_builder.hpp"
#include "sys/namespaces.hpp"

#include <algorithm>
#include <deque>
#include <fcntl.h>
#include <set>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace cooper::ops {

namespace {

constexpr std::size_t kTailLines = 40;

// The end of a step's output, for the error message.
class Tail {
public:
    void add(std::string_view chunk) {
        partial_ += chunk;
        for (auto end = partial_.find('\n'); end != std::string::npos; end = partial_.find('\n')) {
            lines_.push_back(partial_.substr(0, end));
            partial_.erase(0, end + 1);
            if (lines_.size() > kTailLines) lines_.pop_front();
        }
        if (partial_.size() > 16384) partial_.erase(0, partial_.size() - 16384);
    }
    [[nodiscard]] std::string text() const {
        std::string out;
        for (const auto& line : lines_) out += line + "\n";
        return out + partial_;
    }

private:
    std::deque<std::string> lines_;
    std::string partial_;
};

std::string absolute(const std::string& path, const std::string& cwd) {
    if (path.starts_with('/')) return path;
    return (cwd.ends_with('/') ? cwd : cwd + "/") + path;
}

// Disk space of what a step wrote: apparent sizes, an inode once.
Result<std::uint64_t> bytes_below(int dir_fd, std::set<std::pair<dev_t, ino_t>>& seen) {
    std::uint64_t total = 0;
    for (const auto& entry : TRY(sys::list_dir(dir_fd))) {
        struct stat st{};
        if (::fstatat(dir_fd, entry.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) continue;
        if (S_ISDIR(st.st_mode)) {
            const sys::Fd child(::openat(dir_fd, entry.name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
            if (child.valid()) total += TRY(bytes_below(child.get(), seen));
        } else if (S_ISREG(st.st_mode) && (st.st_nlink == 1 || seen.emplace(st.st_dev, st.st_ino).second)) {
            total += static_cast<std::uint64_t>(st.st_size);
        }
    }
    return total;
}

// One execution: what it holds lives until the container has ended.
class Execution {
public:
    Execution(Environment& environment, const ExecParts& parts, std::span<const solver::SharedResult> inputs,
              solver::OpContext& context)
        : environment_(environment), parts_(parts), op_(parts.op), inputs_(inputs), context_(context) {}

    Result<std::vector<solver::SharedResult>> run() {
        TRY(describe(op_));
        TRY(add_mounts());
        TRY(add_secret_env(op_));
        run::Executor* executor = TRY(environment_.executor());
        Tail tail;
        run::Streams streams;
        streams.output = [&](int stream, std::string_view chunk) {
            tail.add(chunk);
            context_.progress.log(stream, std::string(chunk));
        };
        const run::Exit exit = TRY(run_watched(*executor, spec_, streams, context_.stop));
        if (!is_valid(exit.status.code)) {
            keep_failed();
            return run::exit_error(spec_, exit.status).with_detail(LogTail{parts_.description, tail.text()});
        }
        return results();
    }

    Result<> add_mounts() {
        for (const auto& mount : op_.mounts) TRY(add_mount(mount));
        return {};
    }

    // Another process on the mounts that are there.
    Result<ExitStatus> run_process(const llb::ExecOp& op, const run::Streams& streams, Terminal terminal,
                                   const Stop& stop) {
        const run::ProcessSpec mounts = spec_;
        TRY(describe(op));
        TRY(add_secret_env(op));
        run::ProcessSpec spec = std::exchange(spec_, mounts);
        spec.tty = terminal == Terminal::yes;
        if (streams.stdin_fd >= 0) spec.stdin_mode = run::StdinMode::forward;
        run::Executor* executor = TRY(environment_.executor());
        return TRY(run_watched(*executor, spec, streams, stop)).status;
    }

    // What it writes counts against the cap of the state directory.
    Result<run::Exit> run_watched(run::Executor& executor, const run::ProcessSpec& spec, const run::Streams& streams,
                                  const Stop& stop) {
        std::vector<std::string> places;
        for (const auto& [key, path] : cache_paths_) places.push_back(path);
        for (const auto& written : written_) places.push_back(written.draft.host_path());
        const auto watch = environment_.store.space().watch(parts_.description, std::move(places), stop);
        if (watch == nullptr) return executor.run(spec, streams, stop);
        run::ProcessSpec watched_spec = spec;
        watched_spec.disk_watched = true;
        run::Streams watched = streams;
        watched.pausable = [&](run::Streams::Control* control) {
            if (control == nullptr) return watch->set_pause({});
            watch->set_pause([control](bool on) { on ? control->pause() : control->resume(); });
        };
        auto exit = executor.run(watched_spec, watched, watch->stop());
        if (const auto refused = watch->refused()) return *refused;
        return exit;
    }

    // The files of a mount as they are now.
    Result<snapshot::TreeRef> tree_of(std::size_t index) {
        if (index >= op_.mounts.size()) return bad_input("the container has no mount {}", index);
        const llb::Mount& mount = op_.mounts[index];
        std::vector<snapshot::LayerDir> layers;
        if (mount.type == llb::MountType::bind) {
            if (mount.input >= 0) layers = TRY(environment_.trees.layer_dirs(TRY(chain_at(mount.input))));
            const auto own = drafts_.find(&mount);
            if (own != drafts_.end()) layers.push_back({0, TRY(own->second->draft.open())});
        } else if (mount.type == llb::MountType::cache && mount.cache) {
            const auto held = cache_paths_.find(mount.cache->id);
            if (held != cache_paths_.end()) layers.push_back({0, TRY(sys::RootedDir::open_host(held->second))});
        } else {
            return bad_input("the mount at {} has no files that can be read", mount.dest);
        }
        if (layers.empty()) return snapshot::empty_tree();
        return TRY(snapshot::ChainView::create(std::move(layers), snapshot::ChainView::TopLayer::in_work));
    }

private:
    struct Written {
        std::int64_t output;
        store::Chain base;
        store::LayerDraft draft;
    };

    [[nodiscard]] bool is_valid(int code) const {
        const auto& valid = op_.meta.valid_exit_codes;
        if (valid.empty()) return code == 0;
        return std::find(valid.begin(), valid.end(), code) != valid.end();
    }

    Result<> describe(const llb::ExecOp& op) {
        const llb::Meta& meta = op.meta;
        spec_.args = meta.args;
        spec_.env = meta.env;
        spec_.user = meta.user;
        spec_.cwd = meta.cwd.empty() ? "/" : meta.cwd;
        spec_.hostname = meta.hostname;
        spec_.cgroup_parent = meta.cgroup_parent;
        for (const auto& host : meta.extra_hosts) spec_.extra_hosts.push_back({host.host, host.ip});
        for (const auto& limit : meta.ulimit) spec_.ulimits.push_back({limit.name, limit.soft, limit.hard});
        spec_.network = op.network == llb::NetMode::host   ? run::NetworkMode::host
                        : op.network == llb::NetMode::none ? run::NetworkMode::none
                                                           : run::NetworkMode::isolated;
        spec_.security =
            op.security == llb::SecurityMode::insecure ? run::SecurityMode::insecure : run::SecurityMode::sandbox;
        spec_.resources = parts_.resources;
        spec_.architecture = parts_.architecture;
        add_devices(parts_.devices);
        if (meta.proxy_env) {
            const auto add = [&](const std::string& name, const std::string& value) {
                if (value.empty()) return;
                // In front: what the image or the Dockerfile says wins.
                spec_.env.insert(spec_.env.begin(), {to_upper(name) + "=" + value, name + "=" + value});
            };
            add("http_proxy", meta.proxy_env->http_proxy);
            add("https_proxy", meta.proxy_env->https_proxy);
            add("ftp_proxy", meta.proxy_env->ftp_proxy);
            add("no_proxy", meta.proxy_env->no_proxy);
            add("all_proxy", meta.proxy_env->all_proxy);
        }
        return {};
    }

    void add_devices(const run::DeviceEdits& edits) {
        spec_.env.insert(spec_.env.end(), edits.env.begin(), edits.env.end());
        spec_.devices = edits.nodes;
        spec_.hooks = edits.hooks;
        spec_.extra_groups = edits.groups;
        for (const run::CdiMount& mount : edits.mounts) {
            run::BindMount bind;
            bind.tree = run::HostTree{mount.host_path};
            bind.target = mount.target;
            bind.access = mount.read_only ? run::Access::read_only : run::Access::read_write;
            bind.options = mount.options;
            spec_.mounts.emplace_back(std::move(bind));
        }
    }

    [[nodiscard]] const solver::SharedResult& input(std::int64_t index) const {
        static const solver::SharedResult kScratch;
        return index < 0 ? kScratch : inputs_[static_cast<std::size_t>(index)];
    }

    // A chain of any input; a live directory is copied into a layer first.
    Result<store::Chain> chain_at(std::int64_t index) {
        store::Chain chain = TRY(environment_.trees.layers_of(input(index), parts_.description, context_.stop));
        if (!chain.empty()) TRY(environment_.trees.ensure(chain, context_.progress, context_.stop));
        return chain;
    }

    // Lower directories, bottom first. A layer that is in a chain twice counts where it is highest: all
    // that its lower occurrence says is said again there, and overlayfs takes no directory twice.
    Result<std::vector<std::string>> lowers(const store::Chain& chain) {
        std::vector<std::string> paths;
        for (std::size_t i = 0; i < chain.layers.size(); ++i) {
            const bool again = std::find(chain.layers.begin() + static_cast<std::ptrdiff_t>(i) + 1, chain.layers.end(),
                                         chain.layers[i]) != chain.layers.end();
            if (!again) paths.push_back(environment_.store.layer_path(chain.layers[i]));
        }
        if (paths.empty()) {
            // Scratch: overlayfs wants something below.
            if (empty_dir_.empty()) empty_dir_ = TRY(environment_.store.scratch_dir());
            paths.push_back(empty_dir_);
        }
        return paths;
    }

    Result<sys::OverlayPlan> writable(const store::Chain& chain, std::int64_t output) {
        written_.push_back({output, chain, TRY(environment_.store.begin_layer())});
        sys::OverlayPlan plan;
        plan.lower = TRY(lowers(chain));
        plan.upper = written_.back().draft.host_path();
        plan.work = written_.back().draft.work_path();
        if (sys::in_user_namespace()) plan.options = {"userxattr"};
        if (!chain.empty()) {
            // The new layer's root is that of the image.
            struct stat st{};
            if (::stat(plan.lower.back().c_str(), &st) == 0) {
                static_cast<void>(::chown(plan.upper.c_str(), st.st_uid, st.st_gid));
                ::chmod(plan.upper.c_str(), st.st_mode & 07777U);
            }
        }
        return plan;
    }

    Result<> add_mount(const llb::Mount& mount) {
        const std::size_t before = written_.size();
        TRY(mount_one(mount));
        if (written_.size() > before) drafts_[&mount] = &written_.back();
        return {};
    }

    Result<> mount_one(const llb::Mount& mount) {
        const std::string target = absolute(mount.dest, spec_.cwd);
        switch (mount.type) {
            case llb::MountType::bind:
                return add_bind(mount, target);
            case llb::MountType::cache:
                return add_cache(mount, target);
            case llb::MountType::tmpfs: {
                const std::int64_t size = mount.tmpfs ? mount.tmpfs->size_bytes : 0;
                if (target == "/dev/shm" && size > 0) {
                    spec_.shm_size_bytes = static_cast<std::uint64_t>(size);
                    return {};
                }
                spec_.mounts.emplace_back(
                    run::TmpfsMount{target, static_cast<std::uint64_t>(size), run::Access::read_write});
                return {};
            }
            case llb::MountType::secret:
                return add_secret(mount, target);
            case llb::MountType::ssh:
                return add_ssh(mount, target);
        }
        return {};
    }

    Result<> add_bind(const llb::Mount& mount, const std::string& target) {
        const store::Chain chain = TRY(chain_at(mount.input));
        const bool is_root = target == "/";
        if (is_root) {
            if (mount.output >= 0 || !mount.readonly) {
                spec_.root = TRY(writable(chain, mount.output));
            } else {
                spec_.root = TRY(writable(chain, llb::kSkipOutput));
                spec_.root_access = run::Access::read_only;
            }
            return {};
        }
        run::BindMount bind;
        bind.subpath = mount.selector;
        bind.target = target;
        if (mount.readonly) {
            sys::OverlayPlan plan;
            plan.lower = TRY(lowers(chain));
            if (sys::in_user_namespace()) plan.options = {"userxattr"};
            bind.access = run::Access::read_only;
            if (plan.lower.size() == 1) {
                bind.tree = run::HostTree{plan.lower.front()};
            } else {
                bind.tree = std::move(plan);
            }
            if (mount.output >= 0) unchanged_.emplace_back(mount.output, chain);
        } else {
            bind.tree = TRY(writable(chain, mount.output));
            bind.access = run::Access::read_write;
        }
        spec_.mounts.emplace_back(std::move(bind));
        return {};
    }

    Result<> add_cache(const llb::Mount& mount, const std::string& target) {
        std::string key = mount.cache ? mount.cache->id : target;
        const store::Chain seed = TRY(chain_at(mount.input));
        // What it begins with is known by its content: the same on every machine, whatever its layers are called there.
        if (mount.input >= 0) {
            key += ":";
            if (!seed.empty()) {
                key += TRY(environment_.trees.digest(make_result(seed), {layer::ContentSelector{}}, context_.progress,
                                                     context_.stop))
                           .to_string();
            }
        }
        if (mount.output >= 0) unchanged_.emplace_back(mount.output, seed);
        const auto sharing = mount.cache ? mount.cache->sharing : llb::CacheSharing::shared;
        run::BindMount bind;
        bind.subpath = mount.selector;
        bind.target = target;
        bind.access = mount.readonly ? run::Access::read_only : run::Access::read_write;
        // One id twice in one command is one directory.
        if (const auto held = cache_paths_.find(key); held != cache_paths_.end()) {
            bind.tree = run::HostTree{held->second};
            spec_.mounts.emplace_back(std::move(bind));
            return {};
        }
        if (parts_.clear_cache_mounts) {
            TRY(environment_.store.clear_cache_mounts(key, context_.stop));
        } else if (environment_.restore_cache_mount) {
            environment_.restore_cache_mount(key, context_.progress, context_.stop);
        }
        const std::string description = fmt::format("cached mount {} from {} with id \"{}\"", target,
                                                    parts_.description, mount.cache ? mount.cache->id : target);
        store::CacheMount cache = TRY(
            environment_.store.acquire_cache_mount(key,
                                                   sharing == llb::CacheSharing::locked     ? store::Sharing::locked
                                                   : sharing == llb::CacheSharing::private_ ? store::Sharing::private_
                                                                                            : store::Sharing::shared,
                                                   description, context_.stop));
        if (cache.fresh()) {
            if (!seed.empty()) {
                const auto tree = TRY(environment_.trees.tree(make_result(seed), context_.progress, context_.stop));
                const auto builder =
                    TRY(snapshot::LayerBuilder::create({}, TRY(sys::RootedDir::open_host(cache.host_path()))));
                builder->set_before_write([this](std::uint64_t bytes) {
                    return environment_.store.space().charge(bytes, parts_.description);
                });
                // Copied, not linked: what a cache mount changes must not change a layer.
                TRY(layer::materialize(copy_only(tree), *builder, nullptr, context_.stop));
                TRY(builder->finish());
            }
            TRY(cache.mark_seeded());
            if (sharing == llb::CacheSharing::shared) {
                // Others may come in now.
                {
                    const store::CacheMount released = std::move(cache);
                }
                cache = TRY(
                    environment_.store.acquire_cache_mount(key, store::Sharing::shared, description, context_.stop));
            }
        }
        cache_paths_[key] = cache.host_path();
        bind.tree = run::HostTree{cache.host_path()};
        caches_.push_back(std::move(cache));
        spec_.mounts.emplace_back(std::move(bind));
        return {};
    }

    Result<> add_secret(const llb::Mount& mount, const std::string& target) {
        const llb::SecretOpt options = mount.secret.value_or(llb::SecretOpt{});
        const auto secret = TRY(environment_.session.find_secret(options.id, context_.stop));
        if (!secret) {
            if (options.optional) return {};
            return fail(Code::not_found, Blame::user, "secret {}: not found", options.id)
                .with_hint(fmt::format("give it with --secret id={},src=FILE or --secret id={},env=VARIABLE",
                                       options.id, options.id));
        }
        environment_.secrets.add(options.id, *secret);
        spec_.mounts.emplace_back(run::FileMount{secret->reveal(), target, options.mode, options.uid, options.gid});
        return {};
    }

    Result<> add_ssh(const llb::Mount& mount, const std::string& target) {
        llb::SshOpt options = mount.ssh.value_or(llb::SshOpt{});
        if (options.id.empty()) options.id = "default";  // older clients leave it out
        auto socket = TRY(environment_.session.open_ssh(
            options.id, {.uid = options.uid, .gid = options.gid, .mode = static_cast<mode_t>(options.mode)},
            context_.stop));
        if (socket == nullptr) {
            if (options.optional) return {};
            return fail(Code::not_found, Blame::user, "no SSH key \"{}\" forwarded from the client", options.id)
                .with_hint(fmt::format("add --ssh {}", options.id));
        }
        run::BindMount bind;
        bind.tree = run::HostTree{socket->host_path()};
        bind.target = target;
        bind.access = run::Access::read_write;
        spec_.mounts.emplace_back(std::move(bind));
        sockets_.push_back(std::move(socket));
        return {};
    }

    Result<> add_secret_env(const llb::ExecOp& op) {
        for (const auto& variable : op.secret_env) {
            const auto secret = TRY(environment_.session.find_secret(variable.id, context_.stop));
            if (!secret && !variable.optional) {
                return fail(Code::not_found, Blame::user, "secret {}: not found", variable.id)
                    .with_hint(fmt::format("give it with --secret id={},src=FILE", variable.id));
            }
            if (secret) environment_.secrets.add(variable.id, *secret);
            spec_.env.push_back(variable.name + "=" + (secret ? secret->reveal() : std::string()));
        }
        return {};
    }

    // What the step had written when it failed. A courtesy: it changes nothing about the error.
    void keep_failed() {
        if (!environment_.keep_failed) return;
        for (const auto& mount : op_.mounts) {
            const auto own = drafts_.find(&mount);
            if (mount.dest != llb::kRootMount || own == drafts_.end()) continue;
            Written& written = *own->second;
            const auto dir = written.draft.open();
            if (!dir || !environment_.secrets.check(*dir, context_.progress, context_.stop)) return;
            store::LayerInfo info;
            info.description = "failed: " + parts_.description;
            info.record_type = "regular";
            const auto id = std::move(written.draft).commit(info);
            if (id) environment_.keep_failed(parts_.description, written.base.with(*id));
            return;
        }
    }

    Result<std::vector<solver::SharedResult>> results() {
        std::size_t outputs = 0;
        for (const auto& mount : op_.mounts) {
            // Secrets and agents say output 0 on the wire, for want of a value, and have none.
            const bool gives = mount.type == llb::MountType::bind || mount.type == llb::MountType::cache;
            if (gives && mount.output >= 0) outputs = std::max(outputs, static_cast<std::size_t>(mount.output) + 1);
        }
        std::vector<solver::SharedResult> out(outputs);
        for (const auto& [output, chain] : unchanged_) {
            out[static_cast<std::size_t>(output)] = TRY(held_result(chain, environment_.holder));
        }
        for (auto& written : written_) {
            if (written.output < 0) continue;
            store::LayerInfo info;
            info.description = parts_.description;
            info.record_type = "regular";
            {
                const sys::RootedDir dir = TRY(written.draft.open());
                std::set<std::pair<dev_t, ino_t>> seen;
                info.size_bytes = TRY(bytes_below(dir.fd(), seen));
                TRY(environment_.secrets.check(dir, context_.progress, context_.stop));
            }
            const store::LayerId id = TRY(std::move(written.draft).commit(info));
            out[static_cast<std::size_t>(written.output)] =
                TRY(held_result(written.base.with(id), environment_.holder));
        }
        return out;
    }

    Environment& environment_;
    const ExecParts& parts_;
    const llb::ExecOp& op_;
    std::span<const solver::SharedResult> inputs_;
    solver::OpContext& context_;
    run::ProcessSpec spec_;
    std::string empty_dir_;
    std::deque<Written> written_;
    std::map<const llb::Mount*, Written*> drafts_;  // of mounts of op_ that may be written to
    std::vector<std::pair<std::int64_t, store::Chain>> unchanged_;
    std::vector<store::CacheMount> caches_;
    std::map<std::string, std::string> cache_paths_;
    std::vector<std::unique_ptr<session::SshSocket>> sockets_;
};

class MountedContainer final : public Container {
public:
    MountedContainer(Environment& environment, std::vector<llb::Mount> mounts, std::vector<solver::SharedResult> inputs,
                     Stop stop)
        : inputs_(std::move(inputs)),
          progress_(silent_, Digest{}, environment.clock),
          context_{std::move(stop), progress_},
          execution_(environment, parts_, inputs_, context_) {
        parts_.op.mounts = std::move(mounts);
    }
    Result<> prepare() {
        // Relative targets count from the root: the container has no working directory of its own.
        TRY(execution_.add_mounts());
        return {};
    }
    Result<ExitStatus> run(const llb::ExecOp& exec, const run::Streams& streams, Terminal terminal,
                           Stop stop) override {
        return execution_.run_process(exec, streams, terminal, stop);
    }
    Result<snapshot::TreeRef> tree(std::size_t mount) override { return execution_.tree_of(mount); }

private:
    ExecParts parts_;
    std::vector<solver::SharedResult> inputs_;
    NullProgress silent_;
    VertexProgress progress_;
    solver::OpContext context_;
    Execution execution_;
};

}  // namespace

Result<std::unique_ptr<Container>> Container::create(Environment& environment, std::vector<llb::Mount> mounts,
                                                     std::vector<solver::SharedResult> inputs, Stop stop) {
    auto container =
        std::make_unique<MountedContainer>(environment, std::move(mounts), std::move(inputs), std::move(stop));
    TRY(container->prepare());
    return std::unique_ptr<Container>(std::move(container));
}

Result<solver::CacheMapPart> ExecOp::cache_map(std::size_t /*index*/, solver::OpContext& /*context*/) {
    return to_cache_map(parts_.cache);
}

Result<Digest> ExecOp::content_digest(std::size_t input, const solver::SharedResult& result,
                                      solver::OpContext& context) {
    return environment_.trees.digest(result, to_selectors(parts_.cache.inputs.at(input).content), context.progress,
                                     context.stop);
}

Result<std::vector<solver::SharedResult>> ExecOp::execute(std::span<const solver::SharedResult> inputs,
                                                          solver::OpContext& context) {
    return Execution(environment_, parts_, inputs, context).run();
}

}  // namespace cooper::ops
