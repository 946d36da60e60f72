#include "dockerfile/frontend_options.hpp"

#include "base/text.hpp"
#include "dockerfile/csv.hpp"
#include "frontend/git_ref.hpp"
#include "oci/reference.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <nlohmann/json.hpp>
#include <string_view>

namespace cooper::dockerfile {

namespace {

using Options = std::map<std::string, std::string>;

constexpr std::array<std::string_view, 4> kCaps = {
    "moby.buildkit.frontend.inputs", "moby.buildkit.frontend.subrequests", "moby.buildkit.frontend.contexts",
    "moby.buildkit.frontend.gitquerystring"};
constexpr std::array<std::string_view, 15> kUlimits = {"core",    "cpu",      "data",   "fsize",      "locks",
                                                       "memlock", "msgqueue", "nice",   "nofile",     "nproc",
                                                       "rss",     "rtprio",   "rttime", "sigpending", "stack"};

Result<std::int64_t> to_number(std::string_view what, const std::string& value) {
    const auto parsed = parse_int(value);
    if (!parsed) return bad_input("failed to parse {}: {} is not a number", what, quoted(value));
    return *parsed;
}

Result<std::uint64_t> to_natural(std::string_view what, const std::string& value) {
    const std::int64_t number = TRY(to_number(what, value));
    if (number < 0) return bad_input("failed to parse {}: {} is negative", what, value);
    return static_cast<std::uint64_t>(number);
}

// The address as Go prints it: the shortest form, an IPv4 address mapped into IPv6 as IPv4.
Result<std::string> to_address(std::string_view text) {
    const std::string value(text);
    if (value == "host-gateway") return value;  // known when a step has its network
    in_addr v4{};
    if (::inet_pton(AF_INET, value.c_str(), &v4) == 1) return value;
    in6_addr v6{};
    if (::inet_pton(AF_INET6, value.c_str(), &v6) != 1) return bad_input("failed to parse IP {}", value);
    std::array<char, INET6_ADDRSTRLEN> out{};
    if (IN6_IS_ADDR_V4MAPPED(&v6)) {
        ::inet_ntop(AF_INET, &v6.s6_addr[12], out.data(), out.size());
    } else {
        ::inet_ntop(AF_INET6, &v6, out.data(), out.size());
    }
    return std::string(out.data());
}

Result<std::vector<llb::HostIp>> parse_hosts(const std::string& value) {
    std::vector<llb::HostIp> hosts;
    if (value.empty()) return hosts;
    for (const auto& field : TRY(parse_csv_line(value))) {
        const std::string lower = to_lower(field);
        const auto [host, address] = cut(lower, '=');
        if (!address) return bad_input("invalid key-value pair {}", field);
        if (host.empty()) return bad_input("invalid key-value pair {}", field);
        hosts.push_back({std::string(host), TRY(to_address(*address))});
    }
    return hosts;
}

Result<llb::Ulimit> parse_ulimit(const std::string& field) {
    const auto [name, value] = cut(field, '=');
    if (!value) return bad_input("invalid ulimit argument: {}", field).with_hint("write NAME=SOFT[:HARD]");
    if (std::ranges::find(kUlimits, name) == kUlimits.end()) {
        std::vector<std::string> known(kUlimits.begin(), kUlimits.end());
        Error error = bad_input("invalid ulimit type: {}", name);
        return error.with_hint("known are " + join(known, ", "));
    }
    const auto numbers = split(*value, ':');
    if (numbers.size() > 2)
        return bad_input("too many limit value arguments - {}, can only have up to two, `soft[:hard]`", *value);
    llb::Ulimit limit;
    limit.name = std::string(name);
    limit.soft = TRY(to_number(fmt::format("the limit {}", name), numbers.front()));
    limit.hard = numbers.size() == 2 ? TRY(to_number(fmt::format("the limit {}", name), numbers.back())) : limit.soft;
    // -1 is no limit.
    if (limit.hard != -1 && limit.soft == -1) {
        return bad_input("ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: {}",
                         limit.hard);
    }
    if (limit.hard != -1 && limit.soft > limit.hard) {
        return bad_input("ulimit soft limit must be less than or equal to hard limit: {} > {}", limit.soft, limit.hard);
    }
    return limit;
}

Result<std::vector<llb::Ulimit>> parse_ulimits(const std::string& value) {
    std::vector<llb::Ulimit> limits;
    if (value.empty()) return limits;
    for (const auto& field : TRY(parse_csv_line(value))) limits.push_back(TRY(parse_ulimit(field)));
    return limits;
}

Result<std::vector<oci::Platform>> parse_platforms(const std::string& value) {
    std::vector<oci::Platform> platforms;
    if (value.empty()) return platforms;
    for (const auto& name : split(value, ',')) {
        const oci::Platform platform =
            oci::normalize(TRY_CONTEXT(oci::parse_platform(name), "failed to parse target platform {}", name));
        if (std::ranges::find(platforms, platform) == platforms.end()) platforms.push_back(platform);
    }
    return platforms;
}

Result<std::vector<CacheImport>> parse_cache_imports(const std::string& value) {
    std::vector<CacheImport> imports;
    if (value.empty()) return imports;
    const auto refuse = [&](std::string_view why) {
        return bad_input("failed to unmarshal cache-imports ({}): {}", quoted(value), why);
    };
    const auto json = nlohmann::json::parse(value, nullptr, false);
    if (json.is_null()) return imports;
    if (!json.is_array()) return refuse("want a list");
    for (const auto& entry : json) {
        if (!entry.is_object()) return refuse("want a list of objects");
        CacheImport import;
        for (const auto& [key, field] : entry.items()) {
            // As Go reads JSON: names in any case.
            const std::string name = to_lower(key);
            if (name == "type" && field.is_string()) {
                import.type = field.get<std::string>();
            } else if (name == "attrs" && field.is_object()) {
                for (const auto& [attr, text] : field.items()) {
                    if (!text.is_string()) return refuse(fmt::format("{} is not a string", quoted(attr)));
                    import.attrs[attr] = text.get<std::string>();
                }
            } else if ((name == "type" || name == "attrs") && !field.is_null()) {
                return refuse(fmt::format("{} has the wrong type", quoted(key)));
            }
        }
        imports.push_back(std::move(import));
    }
    return imports;
}

class Reader {
public:
    explicit Reader(const Options& options) : options_(options) {}

    Result<FrontendOptions> read() {
        TRY(refuse_removed());
        take_maps();
        TRY(take_target());
        TRY(take_steps());
        TRY(take_resources());
        TRY(take_platforms());
        take_context();
        TRY(take_imports());
        TRY(take_attestations());
        TRY(take_caller());
        return std::move(out_);
    }

private:
    // nullptr when it is not there. An empty value is one.
    [[nodiscard]] const std::string* find(const std::string& key) const {
        const auto found = options_.find(key);
        return found == options_.end() ? nullptr : &found->second;
    }
    [[nodiscard]] std::string text(const std::string& key) const {
        const std::string* found = find(key);
        return found == nullptr ? std::string() : *found;
    }

    [[nodiscard]] Result<> refuse_removed() const {
        if (!text("override-copy-image").empty())
            return bad_input("support for \"override-copy-image\" was removed in BuildKit 0.11");
        if (frontend::parse_go_bool(text("build-arg:BUILDKIT_DISABLE_FILEOP")).value_or(false))
            return bad_input("support for \"BUILDKIT_DISABLE_FILEOP\" build-arg was removed in BuildKit 0.11");
        return {};
    }

    void take_maps() {
        ConvertOptions& convert = out_.convert;
        const std::array maps = {
            std::pair{std::string_view("build-arg:"), &convert.build_args},
            std::pair{std::string_view("label:"), &convert.labels},
            std::pair{std::string_view("context:"), &convert.named_contexts},
            std::pair{std::string_view("input-metadata:"), &convert.input_metadata},
            std::pair{std::string_view("sharedkey:localdir:"), &convert.local_shared_keys},
            std::pair{std::string_view("local-sessionid:"), &convert.local_session_ids},
        };
        for (const auto& [key, value] : options_) {
            for (const auto& [prefix, map] : maps) {
                if (key.starts_with(prefix)) (*map)[key.substr(prefix.size())] = value;
            }
        }
    }

    Result<> take_target() {
        ConvertOptions& convert = out_.convert;
        convert.target = text("target");
        const std::string mode = text("image-resolve-mode");
        if (mode == "pull") {
            convert.resolve_mode = frontend::ResolveMode::pull;
        } else if (mode == "local") {
            convert.resolve_mode = frontend::ResolveMode::local;
        } else if (!mode.empty() && mode != "default") {
            return bad_input("invalid image-resolve-mode: {}", mode).with_hint("known are default, pull and local");
        }
        if (const std::string* stages = find("no-cache")) {
            convert.no_cache = stages->empty() ? std::vector<std::string>{} : split(*stages, ',');
        }
        convert.cache_mount_namespace = text("build-arg:BUILDKIT_CACHE_MOUNT_NS");
        return {};
    }

    // What all RUN have in common.
    Result<> take_steps() {
        ConvertOptions& convert = out_.convert;
        convert.extra_hosts = TRY_CONTEXT(parse_hosts(text("add-hosts")), "failed to parse additional hosts");
        if (const std::string size = text("shm-size"); !size.empty())
            convert.shm_size_bytes = static_cast<std::int64_t>(TRY(to_natural("shm size", size)));
        convert.ulimits = TRY_CONTEXT(parse_ulimits(text("ulimit")), "failed to parse ulimit");
        const std::string network = text("force-network-mode");
        if (network == "host") {
            convert.network = llb::NetMode::host;
        } else if (network == "none") {
            convert.network = llb::NetMode::none;
        } else if (!network.empty() && network != "sandbox") {
            return bad_input("invalid netmode {}", network).with_hint("known are sandbox, none and host");
        }
        convert.cgroup_parent = text("cgroup-parent");
        convert.hostname = text("build-arg:BUILDKIT_SANDBOX_HOSTNAME");
        if (convert.hostname.empty()) convert.hostname = text("hostname");
        return {};
    }

    Result<> take_resources() {
        llb::LinuxResources resources;
        if (const std::string value = text("memory"); !value.empty())
            resources.memory_bytes = static_cast<std::int64_t>(TRY(to_natural("memory", value)));
        if (const std::string value = text("memswap"); !value.empty()) {
            resources.memory_swap_bytes = TRY(to_number("memswap", value));
            if (resources.memory_swap_bytes < -1) return bad_input("failed to parse memswap: {} is below -1", value);
        }
        if (const std::string value = text("cpushares"); !value.empty())
            resources.cpu_shares = TRY(to_natural("cpushares", value));
        if (const std::string value = text("cpuperiod"); !value.empty())
            resources.cpu_period_us = TRY(to_natural("cpuperiod", value));
        if (const std::string value = text("cpuquota"); !value.empty())
            resources.cpu_quota_us = TRY(to_number("cpuquota", value));
        resources.cpuset_cpus = text("cpusetcpus");
        resources.cpuset_mems = text("cpusetmems");
        if (resources != llb::LinuxResources{}) out_.convert.linux_resources = std::move(resources);
        return {};
    }

    Result<> take_platforms() {
        out_.convert.build_platforms = {oci::host_platform()};
        out_.platforms = TRY(parse_platforms(text("platform")));
        out_.multi_platform = out_.platforms.size() > 1;
        std::string wanted = text("build-arg:BUILDKIT_MULTI_PLATFORM");
        if (wanted.empty()) wanted = text("multi-platform");
        if (!wanted.empty()) {
            const auto parsed = frontend::parse_go_bool(wanted);
            if (!parsed) return bad_input("invalid boolean value for multi-platform: {}", wanted);
            if (!*parsed && out_.multi_platform)
                return bad_input("conflicting config: returning multiple target platforms is not allowed");
            out_.multi_platform = *parsed;
        }
        out_.convert.multi_platform = out_.multi_platform;
        return {};
    }

    void take_context() {
        ContextOptions& context = out_.context;
        if (const std::string* name = find("filename"); name != nullptr && !name->empty()) context.filename = *name;
        if (const std::string* key = find("contextkey"); key != nullptr && !key->empty()) context.local_context = *key;
        out_.convert.context.local_name = context.local_context;
        // A remote context is told under the name that the local one would have.
        context.context = text(context.local_context);
        if (const std::string* key = find("dockerfilekey")) {
            context.local_dockerfile = *key;
            context.force_local_dockerfile = true;
        }
        context.subdir = text("contextsubdir");
        context.keep_git_dir = frontend::parse_go_bool(text("build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR"));
        context.commit_mtimes = find("build-arg:SOURCE_DATE_EPOCH") != nullptr;
    }

    Result<> take_imports() {
        out_.cache_imports = TRY(cache_imports_of(options_));
        return {};
    }

    Result<> take_attestations() {
        out_.attestations = TRY(attestations_of(options_));
        return {};
    }

    // Who asks, and for what.
    Result<> take_caller() {
        out_.request_id = text("requestid");
        out_.started_by_gateway = find("cmdline") != nullptr;
        out_.syntax = text("build-arg:BUILDKIT_SYNTAX");
        const std::string wanted = text("frontend.caps");
        if (wanted.empty()) return {};
        for (const auto& cap : split(wanted, ',')) {
            const auto [name, flags] = cut(cap, '+');
            if (std::ranges::find(kCaps, name) != kCaps.end()) continue;
            out_.missing_cap = std::string(name);
            if (flags != "forward") return unsupported_cap(*out_.missing_cap);
        }
        return {};
    }

    const Options& options_;
    FrontendOptions out_;
};

}  // namespace

Error unsupported_cap(const std::string& name) {
    return fail(Code::unimplemented, Blame::user, "unsupported frontend capability {}", name);
}

Result<Attestations> attestations_of(const std::map<std::string, std::string>& options) {
    Attestations out;
    for (const auto& [key, value] : options) {
        for (const std::string_view prefix : {"attest:", "build-arg:BUILDKIT_ATTEST_"}) {
            if (!key.starts_with(prefix)) continue;
            const std::string kind = to_lower(key.substr(prefix.size()));
            auto& attrs = out[kind];
            attrs.clear();
            if (value.empty()) continue;
            for (const auto& field : TRY_CONTEXT(parse_csv_line(value), "failed to parse {}", kind)) {
                const auto [name, text] = cut(field, '=');
                attrs[std::string(name)] = std::string(text.value_or(""));
            }
        }
    }
    const auto sbom = out.find("sbom");
    if (sbom == out.end()) return out;
    const auto generator = sbom->second.find("generator");
    if (generator == sbom->second.end()) return out;
    if (generator->second.empty()) return bad_input("sbom scanner cannot be empty");
    generator->second = TRY_CONTEXT(oci::Reference::parse_normalized(generator->second),
                                    "failed to parse sbom scanner {}", generator->second)
                            .canonical();
    return out;
}

Result<std::vector<CacheImport>> cache_imports_of(const std::map<std::string, std::string>& options) {
    std::vector<CacheImport> imports;
    if (const auto found = options.find("cache-imports"); found != options.end())
        imports = TRY(parse_cache_imports(found->second));
    if (const auto found = options.find("cache-from"); found != options.end() && !found->second.empty()) {
        for (const auto& reference : split(found->second, ',')) imports.push_back({"registry", {{"ref", reference}}});
    }
    return imports;
}

Result<FrontendOptions> parse_frontend_options(const std::map<std::string, std::string>& options) {
    return Reader(options).read();
}

}  // namespace cooper::dockerfile
