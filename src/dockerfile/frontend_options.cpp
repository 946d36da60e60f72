#include "dockerfile/frontend_options.hpp"

#include "base/text.hpp"
#include "dockerfile/csv.hpp"
#include "frontend/git_ref.hpp"

#include <algorithm>

namespace cooper::dockerfile {

namespace {

Error invalid(std::string_view option, std::string_view value, std::string_view wanted) {
    return bad_input("invalid value {} for the build option {}: want {}", quoted(value), option, wanted);
}

Result<bool> to_bool(std::string_view option, const std::string& value) {
    const auto parsed = frontend::parse_go_bool(value);
    if (!parsed) return invalid(option, value, "true or false");
    return *parsed;
}

Result<std::int64_t> to_number(std::string_view option, const std::string& value) {
    const auto parsed = parse_int(value);
    if (!parsed) return invalid(option, value, "a number");
    return *parsed;
}

Result<std::vector<llb::HostIp>> parse_hosts(const std::string& value) {
    std::vector<llb::HostIp> hosts;
    if (value.empty()) return hosts;
    for (const auto& field : TRY(parse_csv_line(value))) {
        const std::string lower = to_lower(field);
        const auto [host, ip] = cut(lower, '=');
        if (!ip || host.empty() || ip->empty()) return invalid("add-hosts", field, "HOST=ADDRESS");
        hosts.push_back({std::string(host), std::string(*ip)});
    }
    return hosts;
}

Result<std::vector<llb::Ulimit>> parse_ulimits(const std::string& value) {
    std::vector<llb::Ulimit> limits;
    if (value.empty()) return limits;
    for (const auto& field : TRY(parse_csv_line(value))) {
        const auto [name, numbers] = cut(field, '=');
        const auto [soft, hard] = cut(numbers.value_or(""), ':');
        const auto soft_number = parse_int(soft);
        const auto hard_number = hard ? parse_int(*hard) : soft_number;
        if (name.empty() || !soft_number || !hard_number)
            return bad_input("invalid --ulimit {}: want NAME=SOFT[:HARD]", quoted(field));
        if (*hard_number != -1 && *soft_number > *hard_number)
            return bad_input("--ulimit {}: the soft limit is above the hard one", quoted(field));
        limits.push_back({std::string(name), *soft_number, *hard_number});
    }
    return limits;
}

class Reader {
public:
    explicit Reader(const std::map<std::string, std::string>& options) : options_(options) {}

    Result<FrontendOptions> read() {
        out_.convert.build_platforms = {oci::host_platform()};
        for (const auto& [key, value] : options_) TRY(take(key, value));
        TRY(take_build_args());
        if (out_.platforms.size() > 1) {
            const auto found = options_.find("multi-platform");
            if (found != options_.end() && !out_.multi_platform)
                return bad_input("{} platforms are asked for, but multi-platform is false", out_.platforms.size());
            out_.multi_platform = true;
        }
        return std::move(out_);
    }

private:
    Result<> take(const std::string& key, const std::string& value) {
        if (take_prefixed(key, value)) return {};
        ConvertOptions& convert = out_.convert;
        if (key == "target") {
            convert.target = value;
        } else if (key == "filename") {
            out_.context.filename = value.empty() ? "Dockerfile" : value;
        } else if (key == "context") {
            out_.context.context = value;
        } else if (key == "contextkey") {
            out_.context.local_context = value;
            convert.context.local_name = value;
        } else if (key == "dockerfilekey") {
            out_.context.local_dockerfile = value;
            out_.context.force_local_dockerfile = true;
        } else if (key == "contextsubdir") {
            out_.context.subdir = value;
        } else if (key == "platform") {
            for (const auto& name : split(value, ',')) {
                if (trim(name).empty()) continue;
                const auto platform = oci::normalize(TRY(oci::parse_platform(trim(name))));
                if (std::ranges::find(out_.platforms, platform) == out_.platforms.end())
                    out_.platforms.push_back(platform);
            }
        } else if (key == "multi-platform") {
            if (!value.empty()) out_.multi_platform = TRY(to_bool(key, value));
        } else if (key == "no-cache") {
            convert.no_cache = std::vector<std::string>{};
            for (const auto& stage : split(value, ',')) {
                if (!trim(stage).empty()) convert.no_cache->push_back(std::string(trim(stage)));
            }
        } else if (key == "image-resolve-mode") {
            if (value == "pull") {
                convert.resolve_mode = frontend::ResolveMode::pull;
            } else if (value == "local") {
                convert.resolve_mode = frontend::ResolveMode::local;
            } else if (!value.empty() && value != "default") {
                return invalid(key, value, "default, pull or local");
            }
        } else if (key == "add-hosts") {
            convert.extra_hosts = TRY(parse_hosts(value));
        } else if (key == "ulimit") {
            convert.ulimits = TRY(parse_ulimits(value));
        } else if (key == "shm-size") {
            convert.shm_size_bytes = TRY(to_number(key, value));
        } else if (key == "cgroup-parent") {
            convert.cgroup_parent = value;
        } else if (key == "hostname") {
            convert.hostname = value;
        } else if (key == "force-network-mode") {
            if (value == "host") {
                convert.network = llb::NetMode::host;
            } else if (value == "none") {
                convert.network = llb::NetMode::none;
            } else if (!value.empty() && value != "sandbox") {
                return invalid(key, value, "none, host or sandbox");
            }
        } else if (key == "requestid") {
            out_.request_id = value;
        } else if (key == "frontend.caps") {
            for (const auto& cap : split(value, ',')) {
                if (!cap.empty()) out_.required_caps.push_back(cap);
            }
        } else if (key == "cmdline") {
            out_.started_by_gateway = true;
        } else if (key == "override-copy-image") {
            return bad_input("the build option override-copy-image is no longer supported");
        } else {
            return take_resource(key, value);
        }
        return {};
    }

    bool take_prefixed(const std::string& key, const std::string& value) {
        const auto tail = [&](std::string_view prefix) -> std::optional<std::string> {
            if (!key.starts_with(prefix)) return std::nullopt;
            return key.substr(prefix.size());
        };
        if (const auto name = tail("build-arg:")) {
            out_.convert.build_args[*name] = value;
        } else if (const auto label = tail("label:")) {
            out_.convert.labels[*label] = value;
        } else if (const auto context = tail("context:")) {
            out_.convert.named_contexts[*context] = value;
        } else if (const auto shared = tail("sharedkey:localdir:")) {
            out_.convert.local_shared_keys[*shared] = value;
        } else {
            return false;
        }
        return true;
    }

    Result<> take_resource(const std::string& key, const std::string& value) {
        const auto resources = [&]() -> llb::LinuxResources& {
            if (!out_.convert.linux_resources) out_.convert.linux_resources.emplace();
            return *out_.convert.linux_resources;
        };
        if (value.empty()) return {};
        if (key == "memory") {
            resources().memory_bytes = TRY(to_number(key, value));
        } else if (key == "memswap") {
            resources().memory_swap_bytes = TRY(to_number(key, value));
        } else if (key == "cpushares") {
            resources().cpu_shares = static_cast<std::uint64_t>(TRY(to_number(key, value)));
        } else if (key == "cpuperiod") {
            resources().cpu_period_us = static_cast<std::uint64_t>(TRY(to_number(key, value)));
        } else if (key == "cpuquota") {
            resources().cpu_quota_us = TRY(to_number(key, value));
        } else if (key == "cpusetcpus") {
            resources().cpuset_cpus = value;
        } else if (key == "cpusetmems") {
            resources().cpuset_mems = value;
        }
        return {};
    }

    Result<> take_build_args() {
        const auto& args = out_.convert.build_args;
        const auto value_of = [&](const char* name) -> const std::string* {
            const auto found = args.find(name);
            return found == args.end() ? nullptr : &found->second;
        };
        if (const auto* keep = value_of("BUILDKIT_CONTEXT_KEEP_GIT_DIR"); keep != nullptr && !keep->empty())
            out_.context.keep_git_dir = TRY(to_bool("BUILDKIT_CONTEXT_KEEP_GIT_DIR", *keep));
        if (const auto* several = value_of("BUILDKIT_MULTI_PLATFORM"); several != nullptr && !several->empty())
            out_.multi_platform = TRY(to_bool("BUILDKIT_MULTI_PLATFORM", *several));
        if (const auto* disable = value_of("BUILDKIT_DISABLE_FILEOP"); disable != nullptr && !disable->empty()) {
            if (TRY(to_bool("BUILDKIT_DISABLE_FILEOP", *disable)))
                return bad_input("BUILDKIT_DISABLE_FILEOP is no longer supported");
        }
        if (const auto* name = value_of("BUILDKIT_SANDBOX_HOSTNAME")) out_.convert.hostname = *name;
        if (const auto* space = value_of("BUILDKIT_CACHE_MOUNT_NS")) out_.convert.cache_mount_namespace = *space;
        if (const auto* syntax = value_of("BUILDKIT_SYNTAX")) out_.syntax = *syntax;
        out_.context.commit_mtimes = args.contains("SOURCE_DATE_EPOCH");
        return {};
    }

    const std::map<std::string, std::string>& options_;
    FrontendOptions out_;
};

}  // namespace

Result<FrontendOptions> parse_frontend_options(const std::map<std::string, std::string>& options) {
    return Reader(options).read();
}

}  // namespace cooper::dockerfile
