#include "engine/local_engine.hpp"

#include "base/text.hpp"
#include "codec/sha256.hpp"
#include "http/proxy.hpp"
#include "run/oci_executor.hpp"

#include <algorithm>
#include <array>
#include <fcntl.h>
#include <sys/statvfs.h>
#include <thread>
#include <unistd.h>

namespace cooper::engine {

std::size_t core_count() { return std::max(1U, std::thread::hardware_concurrency()); }

registry::RegistryConfig registry_config(const Config& config) {
    registry::RegistryConfig out;
    for (const auto& [name, host] : config.registries) {
        registry::HostConfig& one = out.hosts[name];
        if (host.plain_http) one.scheme = *host.plain_http ? registry::Scheme::http : registry::Scheme::https;
        if (host.insecure) one.tls.verify = http::Verify::no;
        one.tls.ca_file = host.ca_file;
        one.mirrors = host.mirrors;
    }
    return out;
}

layer::ApplyLimits apply_limits(const Config& config, store::Store& store) {
    layer::ApplyLimits limits;
    limits.max_bytes = config.max_layer_bytes;
    limits.max_entries = config.max_layer_files;
    limits.before_write = [&store](std::uint64_t bytes) {
        return store.space().charge(bytes, "a layer that is unpacked");
    };
    return limits;
}

namespace {

UsageRow row_of(const store::UsageRecord& record) {
    UsageRow row;
    row.id = record.id;
    row.description = record.description;
    row.record_type = record.record_type;
    row.size_bytes = record.size_bytes;
    row.in_use = record.in_use;
    row.shared = record.shared;
    row.mutable_record = record.mutable_record;
    row.usage_count = record.usage_count;
    row.created = record.created;
    row.last_used = record.last_used;
    row.parents = record.parents;
    return row;
}

}  // namespace

namespace {

Result<std::uint64_t> bytes_on_disk(const std::string& root, const DiskSize& size) {
    if (size.percent == 0) return size.bytes;
    struct statvfs disk{};
    if (::statvfs(root.c_str(), &disk) != 0) return fail_errno(errno, "size of the disk of " + root);
    return std::uint64_t{disk.f_blocks} * disk.f_frsize / 100 * static_cast<std::uint64_t>(size.percent);
}

}  // namespace

Result<std::unique_ptr<Engine>> Engine::open(std::string root, Config config) {
    return LocalEngine::create(root, std::move(config));
}

Result<std::unique_ptr<Engine>> LocalEngine::create(const std::string& root, Config config) {
    static const SystemClock kClock;
    auto store = TRY(store::Store::open(root, kClock));
    if (const std::uint64_t limit = TRY(bytes_on_disk(root, config.max_disk)); limit > 0)
        TRY_CONTEXT(store->limit_space(limit), "max-disk");
    return std::unique_ptr<Engine>(new LocalEngine(std::move(store), std::move(config)));
}

Result<std::string> LocalEngine::secret_key(std::string_view value) {
    static constexpr const char* kFile = "secret-key";
    const auto root = TRY(sys::RootedDir::open_host(store_->root()));
    auto key = root.read_file(kFile, 64);
    if (!key && key.error().code() == Code::not_found) {
        std::array<char, 32> random{};
        if (::getentropy(random.data(), random.size()) != 0) return fail_errno(errno, "random numbers");
        // Whole or not at all: another process may be making it, too, and the first one's counts.
        const std::string path = store_->root() + "/" + kFile;
        const sys::Fd file(::open(store_->root().c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600));
        if (!file.valid()) return fail_errno(errno, path);
        TRY(sys::write_all(file.get(), std::string_view(random.data(), random.size())));
        const std::string made = "/proc/self/fd/" + std::to_string(file.get());
        if (::linkat(AT_FDCWD, made.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) != 0 && errno != EEXIST)
            return fail_errno(errno, path);
        key = root.read_file(kFile, 64);
    }
    return codec::hmac_sha256(TRY(std::move(key)), value).hex();
}

LocalEngine::LocalEngine(std::unique_ptr<store::Store> store, Config config)
    : config_(std::move(config)),
      store_(std::move(store)),
      http_({.user_agent = "cooper/" COOPER_VERSION,
             .proxies = http::ProxySettings::from_process_environment(),
             .offline = config_.offline}),
      credentials_(config_.docker_config),
      registry_(registry_config(config_), credentials_, http_, http::RetryPolicy{}),
      origin_(registry_),
      images_(*store_, origin_, apply_limits(config_, *store_), 4),
      trees_(*store_, *this, core_count()),
      packer_(
          *store_,
          [this](store::LayerId id, VertexProgress& progress, const Stop& stop) {
              return images_.materialize(id, &progress, stop);
          },
          [this](const store::LazyLayer& lazy, const Stop& stop) {
              return images_.open_blob(lazy.blob, lazy.reference, stop);
          },
          core_count()),
      solver_cache_(*store_),
      solver_results_(*store_) {}

LocalEngine::~LocalEngine() = default;

Result<> LocalEngine::materialize(const store::Chain& chain, VertexProgress& progress, Stop stop) {
    return images_.materialize(chain, &progress, stop);
}

Result<run::Executor*> LocalEngine::executor() {
    const std::lock_guard lock(executor_mutex_);
    if (executor_ == nullptr) {
        run::OciExecutorOptions options;
        options.state_dir = store_->root() + "/run";
        options.runtime = config_.oci_runtime;
        options.emulators = config_.emulators;
        options.dns = config_.dns;
        options.network_provider = config_.network;
        options.shares_processes = config_.shares_processes;
        executor_ = TRY(run::make_oci_executor(std::move(options)));
    }
    return executor_.get();
}

solver::Solver& LocalEngine::solver() {
    std::call_once(solver_once_, [this] {
        const std::size_t jobs = config_.jobs > 0 ? config_.jobs : core_count();
        solver_ = std::make_unique<solver::Solver>(
            solver::SolverOptions{.cpu_jobs = jobs, .io_jobs = std::max<std::size_t>(8, jobs), .exec_jobs = jobs},
            solver_cache_, solver_results_, clock_);
    });
    return *solver_;
}

Result<> LocalEngine::collect_garbage() {
    if (!config_.gc.enabled) return {};
    std::uint64_t used = 0;
    TRY(store_->database().run("SELECT coalesce(sum(size), 0) FROM layers WHERE on_disk = 1", {},
                               [&](const store::Row& row) { used = static_cast<std::uint64_t>(row.integer(0)); }));
    std::uint64_t keep = config_.gc.keep_storage_bytes;
    if (keep == 0) {
        struct statvfs disk{};
        if (::statvfs(store_->root().c_str(), &disk) != 0) return fail_errno(errno, "size of the disk");
        keep = std::max<std::uint64_t>(disk.f_blocks * disk.f_frsize / 10, 2'000'000'000);
    }
    const std::uint64_t min_free = TRY(bytes_on_disk(store_->root(), config_.gc.min_free));
    if (min_free > 0) {
        struct statvfs disk{};
        if (::statvfs(store_->root().c_str(), &disk) != 0) return fail_errno(errno, "size of the disk");
        const std::uint64_t free = std::uint64_t{disk.f_bavail} * disk.f_frsize;
        if (free < min_free) keep = std::min(keep, used > min_free - free ? used - (min_free - free) : 1);
    }
    keep = std::max(keep, TRY(bytes_on_disk(store_->root(), config_.gc.reserved)));
    if (used > keep) {
        store::PruneOptions options;
        options.all = true;
        options.keep_bytes = keep;
        TRY(store_->prune(options));
    }
    if (config_.gc.keep_duration_s > 0) {
        store::PruneOptions options;
        options.all = true;
        options.used_before = clock_.now() - std::chrono::seconds(config_.gc.keep_duration_s);
        TRY(store_->prune(options));
    }
    return {};
}

Result<> LocalEngine::release_if_idle() {
    // Under the lock, so that no build begins meanwhile.
    auto live = live_jobs_.lock();
    if (*live > 0) return {};
    return store_->release_holds();
}

Result<std::vector<UsageRow>> LocalEngine::disk_usage() {
    TRY(release_if_idle());
    std::vector<UsageRow> rows;
    for (const auto& record : TRY(store_->usage())) rows.push_back(row_of(record));
    return rows;
}

Result<std::vector<KeptRow>> LocalEngine::why_kept() {
    TRY(release_if_idle());
    std::vector<KeptRow> rows;
    for (auto& record : TRY(store_->why_kept()))
        rows.push_back({row_of(record.usage), std::move(record.by), std::move(record.freed_by)});
    return rows;
}

Result<PruneResponse> LocalEngine::prune(const PruneRequest& request) {
    store::PruneOptions options;
    options.all = request.all;
    options.keep_bytes = request.keep_storage_bytes;
    options.dry_run = request.dry_run;
    if (request.unused_for.count() > 0) options.used_before = clock_.now() - request.unused_for;
    if (request.only) {
        options.only = [&request](const store::UsageRecord& record) { return request.only(row_of(record)); };
    }
    for (const auto& filter : request.filters) {
        const auto [key, value] = cut(filter, '=');
        if (!value)
            return bad_input("invalid filter {}", quoted(filter)).with_hint("until=24h, type==exec.cachemount, id==…");
        std::string_view text = *value;
        if (text.starts_with('=')) text.remove_prefix(1);
        if (key == "until" || key == "unused-for") {
            options.used_before = clock_.now() - TRY(parse_age(text));
        } else if (key == "id" || key == "type" || key == "description") {
            options.equals.emplace_back(std::string(key), std::string(text));
        } else {
            const auto near = nearest(key, {"until", "id", "type", "description"});
            return bad_input("unknown filter {}{}", quoted(key), near ? ", did you mean " + *near + "?" : "");
        }
    }
    TRY(release_if_idle());
    PruneResponse response;
    for (const auto& record : TRY(store_->prune(options))) {
        response.freed_bytes += record.size_bytes;
        response.removed.push_back(row_of(record));
    }
    return response;
}

Result<std::vector<BuildRow>> LocalEngine::list_builds() {
    std::vector<BuildRow> rows;
    for (const auto& build : TRY(store_->builds())) {
        rows.push_back({build.ref, build.description, build.started, build.completed, build.error, build.steps,
                        build.cached_steps});
    }
    return rows;
}

Result<std::string> LocalEngine::build_log(const std::string& ref) {
    std::vector<std::string> found;
    for (const auto& build : TRY(store_->builds())) {
        if (build.ref.starts_with(ref)) found.push_back(build.ref);
        if (ref.empty() && !found.empty()) break;
    }
    if (found.empty()) {
        return Error(Code::not_found, Blame::user, ref.empty() ? "nothing has been built yet" : "no build " + ref)
            .with_hint("cooper logs --list shows them");
    }
    if (found.size() > 1) return bad_input("{} builds begin with {}", found.size(), ref);
    const auto root = TRY(sys::RootedDir::open_host(store_->root()));
    return root.read_file("logs/" + found.front() + ".log", std::size_t{1} << 30U);
}

Result<WhyAnswer> LocalEngine::why(const std::string& ref) {
    std::vector<store::BuildRecord> builds = TRY(store_->builds());
    std::erase_if(builds, [&](const auto& build) { return !build.ref.starts_with(ref); });
    store::Store::Misses misses = TRY(store_->misses(ref));
    // A build without misses ran nothing; one that is under way or was a daemon's has no row here.
    const bool is_newest = !misses.build.empty() && (builds.empty() || builds.front().ref == misses.build ||
                                                     misses.last > builds.front().started);
    WhyAnswer answer;
    if (is_newest) {
        answer.ref = misses.build;
        std::erase_if(builds, [&](const auto& build) { return build.ref != misses.build; });
    } else if (builds.empty()) {
        return Error(Code::not_found, Blame::user, ref.empty() ? "nothing has been built yet" : "no build " + ref)
            .with_hint("cooper logs --list shows them");
    } else if (!ref.empty() && builds.size() > 1) {
        return bad_input("{} builds begin with {}", builds.size(), ref);
    } else {
        misses.data.clear();
        answer.ref = builds.front().ref;
    }
    if (!builds.empty()) {
        answer.description = builds.front().description;
        answer.steps = builds.front().steps;
        answer.cached_steps = builds.front().cached_steps;
    }
    for (const auto& data : misses.data) {
        if (auto miss = why::parse_miss(data)) answer.misses.push_back(std::move(*miss));
    }
    return answer;
}

std::vector<std::string> LocalEngine::emulated_architectures() {
    const auto executor = this->executor();
    return executor ? (*executor)->emulated() : std::vector<std::string>();
}

Result<std::vector<InfoRow>> LocalEngine::info() {
    std::vector<InfoRow> rows = {
        {"Version", COOPER_VERSION}, {"Root", store_->root()}, {"Cores", std::to_string(core_count())}};
    const auto executor = this->executor();
    rows.push_back({"Executor", executor ? (*executor)->describe() : executor.error().to_string()});
    rows.push_back({"Platform", oci::format_platform(oci::host_platform())});
    if (const auto emulated = emulated_architectures(); !emulated.empty())
        rows.push_back({"Emulated", join(emulated, ", ")});
    std::uint64_t used = 0;
    for (const auto& record : TRY(store_->usage())) used += record.size_bytes;
    rows.push_back({"Images", std::to_string(TRY(store_->images()).size())});
    rows.push_back({"Disk usage", human_size(used)});
    return rows;
}

Result<> LocalEngine::login(const std::string& host, const std::string& user, const std::string& password, Stop stop) {
    registry::Credential credential;
    credential.username = user;
    credential.password = password;
    const registry::Credential checked = TRY(registry_.check_login(host, credential, stop));
    return credentials_.store(host, checked, stop);
}

Result<> LocalEngine::logout(const std::string& host) {
    if (!TRY(credentials_.erase(host, Stop{}))) {
        return fail(Code::not_found, Blame::user, "not logged in to {}", host);
    }
    return {};
}

}  // namespace cooper::engine
