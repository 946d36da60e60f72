#include "apps/cooperd/file_options.hpp"

#include "base/text.hpp"
#include "dockerfile/go_duration.hpp"

#include <functional>
#include <sys/statvfs.h>
#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

namespace cooper::cooperd {

namespace {

class Reader {
public:
    using Set = std::function<Result<>(const toml::node& node)>;

    explicit Reader(std::string_view file) : file_(file) {}

    [[nodiscard]] Error wrong(const toml::node& node, const std::string& text) const {
        const int line = static_cast<int>(node.source().begin.line);
        return bad_input("{}:{}: {}", file_, line, text).with_detail(SourceRange{std::string(file_), line, line, 0, 0});
    }

    // Every key of the table has its place in `keys`; an unknown one is named, with the nearest that is known.
    Result<> table(const toml::node& node, std::string_view path, const std::map<std::string, Set>& keys) const {
        const toml::table* table = node.as_table();
        if (table == nullptr) return wrong(node, fmt::format("{} must be a table", path));
        for (const auto& [key, value] : *table) {
            const auto at = keys.find(std::string(key.str()));
            if (at == keys.end()) {
                std::vector<std::string> known;
                for (const auto& [name, set] : keys) known.push_back(name);
                const auto near = nearest(key.str(), known);
                return wrong(value, fmt::format("unknown key {}{}{}", quoted(std::string(key.str())),
                                                path.empty() ? "" : fmt::format(" in [{}]", path),
                                                near ? fmt::format(", did you mean {}?", *near) : ""));
            }
            TRY(at->second(value));
        }
        return {};
    }

    [[nodiscard]] Set text(std::string& out) const {
        return [this, &out](const toml::node& node) -> Result<> {
            const auto value = node.value_exact<std::string>();
            if (!value) return wrong(node, "a text is expected");
            out = *value;
            return {};
        };
    }
    [[nodiscard]] Set texts(std::vector<std::string>& out) const {
        return [this, &out](const toml::node& node) -> Result<> {
            if (const auto value = node.value_exact<std::string>()) {
                out.push_back(*value);
                return {};
            }
            const toml::array* list = node.as_array();
            if (list == nullptr) return wrong(node, "a list of texts is expected");
            for (const auto& item : *list) {
                const auto value = item.value_exact<std::string>();
                if (!value) return wrong(item, "a list of texts is expected");
                out.push_back(*value);
            }
            return {};
        };
    }
    [[nodiscard]] Set map(std::map<std::string, std::string>& out) const {
        return [this, &out](const toml::node& node) -> Result<> {
            const toml::table* table = node.as_table();
            if (table == nullptr) return wrong(node, "a table of texts is expected");
            for (const auto& [key, value] : *table) {
                const auto one = value.value_exact<std::string>();
                if (!one) return wrong(value, "a text is expected");
                out[std::string(key.str())] = *one;
            }
            return {};
        };
    }
    [[nodiscard]] Result<bool> flag(const toml::node& node) const {
        const auto value = node.value_exact<bool>();
        if (!value) return wrong(node, "true or false is expected");
        return *value;
    }
    [[nodiscard]] Set optional_flag(std::optional<bool>& out) const {
        return [this, &out](const toml::node& node) -> Result<> {
            out = TRY(flag(node));
            return {};
        };
    }
    template <class T>
    [[nodiscard]] Set number(T& out) const {
        return [this, &out](const toml::node& node) -> Result<> {
            const auto value = node.value_exact<std::int64_t>();
            if (!value || *value < 0 || *value > 0xffffffff) return wrong(node, "a number, 0 or more, is expected");
            out = static_cast<typename std::remove_reference_t<decltype(out)>>(*value);
            return {};
        };
    }
    [[nodiscard]] Set optional_number(std::optional<std::uint32_t>& out) const {
        return [this, &out](const toml::node& node) -> Result<> {
            std::uint32_t value = 0;
            TRY(number(value)(node));
            out = value;
            return {};
        };
    }
    // Seconds, or a duration such as "48h".
    [[nodiscard]] Set seconds(std::function<void(std::int64_t)> put) const {
        return [this, put = std::move(put)](const toml::node& node) -> Result<> {
            if (const auto value = node.value_exact<std::int64_t>(); value && *value >= 0) {
                put(*value);
                return {};
            }
            const auto word = node.value_exact<std::string>();
            const auto duration =
                word ? dockerfile::parse_go_duration(*word) : Result<std::int64_t>(bad_input("no text"));
            if (!duration || *duration < 0) return wrong(node, "seconds, or a duration such as \"48h\", are expected");
            put(*duration / 1'000'000'000);
            return {};
        };
    }
    [[nodiscard]] Set space(DiskSpace& out) const {
        return [this, &out](const toml::node& node) -> Result<> {
            if (const auto value = node.value_exact<std::int64_t>(); value && *value >= 0) {
                out = {.bytes = static_cast<std::uint64_t>(*value)};
                return {};
            }
            const auto word = node.value_exact<std::string>();
            const auto parsed = word ? parse_disk_space(*word) : Result<DiskSpace>(bad_input("no text"));
            if (!parsed) return wrong(node, "bytes, or a size such as \"20GB\" or \"10%\", are expected");
            out = *parsed;
            return {};
        };
    }
    // A key that is understood and cannot be honoured, unless its value asks for nothing.
    [[nodiscard]] Set refused(std::string name, std::string why) const {
        return [this, name = std::move(name), why = std::move(why)](const toml::node& node) -> Result<> {
            if (node.value_exact<bool>() == false || node.value_exact<std::string>() == "" ||
                node.value_exact<std::int64_t>() == 0 || (node.is_array() && node.as_array()->empty())) {
                return {};
            }
            return wrong(node, fmt::format("{} is not supported: {}", name, why));
        };
    }
    // One whose only supported value is this.
    [[nodiscard]] Set only(std::string name, std::vector<std::string> values, std::string why) const {
        return [this, name = std::move(name), values = std::move(values),
                why = std::move(why)](const toml::node& node) -> Result<> {
            const auto value = node.value_exact<std::string>();
            if (value && std::find(values.begin(), values.end(), *value) != values.end()) return {};
            return wrong(node, fmt::format("{} can only be {}: {}", name, join(values, " or "), why));
        };
    }

private:
    std::string_view file_;
};

Result<> read_registries(const Reader& reader, const toml::node& node, engine::Config& config) {
    const toml::table* table = node.as_table();
    if (table == nullptr) return reader.wrong(node, "[registry.\"HOST\"] is expected");
    for (const auto& [name, host] : *table) {
        engine::RegistryHost& out = config.registries[std::string(name.str())];
        std::optional<bool> http;
        std::optional<bool> insecure;
        std::vector<std::string> ca;
        TRY(reader.table(host, "registry",
                         {{"mirrors", reader.texts(out.mirrors)},
                          {"http", reader.optional_flag(http)},
                          {"insecure", reader.optional_flag(insecure)},
                          {"ca", reader.texts(ca)},
                          {"keypair", reader.refused("registry.keypair", "registries are asked without a certificate")},
                          {"tlsconfigdir", reader.refused("registry.tlsconfigdir", "name the files")}}));
        if (ca.size() > 1) return reader.wrong(host, "more than one ca of a registry is not supported: join the files");
        if (http) out.plain_http = http;
        out.insecure = insecure.value_or(false);
        if (!ca.empty()) out.ca_file = ca.front();
    }
    return {};
}

Result<> read_policies(const Reader& reader, const toml::node& node, std::vector<FilePolicy>& out) {
    const toml::array* list = node.as_array();
    if (list == nullptr) return reader.wrong(node, "[[worker.oci.gcpolicy]] is expected");
    for (const auto& item : *list) {
        FilePolicy one;
        std::optional<bool> all;
        TRY(reader.table(item, "worker.oci.gcpolicy",
                         {{"all", reader.optional_flag(all)},
                          {"keepDuration", reader.seconds([&](std::int64_t s) { one.policy.keep_duration_s = s; })},
                          {"filters", reader.texts(one.policy.filters)},
                          {"keepBytes", reader.space(one.reserved)},
                          {"reservedSpace", reader.space(one.reserved)},
                          {"maxUsedSpace", reader.space(one.max_used)},
                          {"minFreeSpace", reader.space(one.min_free)}}));
        one.policy.all = all.value_or(false);
        out.push_back(std::move(one));
    }
    return {};
}

Result<> read_oci_worker(const Reader& reader, const toml::node& node, FileOptions& out) {
    std::optional<bool> enabled;
    std::optional<bool> no_process_sandbox;
    TRY(reader.table(
        node, "worker.oci",
        {{"enabled", reader.optional_flag(enabled)},
         {"labels", reader.map(out.labels)},
         {"platforms", reader.texts(out.platforms)},
         {"snapshotter", reader.only("worker.oci.snapshotter", {"auto", "overlayfs"}, "layers are overlaid")},
         {"proxySnapshotterPath", reader.refused("worker.oci.proxySnapshotterPath", "snapshots are cooper's own")},
         {"rootless", reader.refused("worker.oci.rootless", "it is found out")},
         {"noProcessSandbox", reader.optional_flag(no_process_sandbox)},
         {"gc", reader.optional_flag(out.gc)},
         {"gckeepstorage", reader.space(out.reserved)},
         {"reservedSpace", reader.space(out.reserved)},
         {"maxUsedSpace", reader.space(out.max_used)},
         {"minFreeSpace", reader.space(out.min_free)},
         {"maxDisk", reader.space(out.max_disk)},
         {"gcpolicy", [&](const toml::node& list) { return read_policies(reader, list, out.policies); }},
         {"networkMode", reader.text(out.network)},
         {"cniConfigPath", reader.refused("worker.oci.cniConfigPath", "networks are made without CNI")},
         {"cniBinaryPath", reader.refused("worker.oci.cniBinaryPath", "networks are made without CNI")},
         {"cniPoolSize", reader.refused("worker.oci.cniPoolSize", "networks are made without CNI")},
         {"binary", reader.text(out.engine.oci_runtime)},
         {"apparmor-profile", reader.refused("worker.oci.apparmor-profile", "steps run without AppArmor")},
         {"selinux", reader.refused("worker.oci.selinux", "steps run without labels of SELinux")},
         {"max-parallelism", reader.number(out.engine.jobs)},
         {"defaultCgroupParent", reader.refused("worker.oci.defaultCgroupParent", "a build may ask for one")}}));
    if (no_process_sandbox == true && ::geteuid() == 0)
        return reader.wrong(node, "worker.oci.noProcessSandbox is not supported: cooperd runs as root");
    out.no_process_sandbox = no_process_sandbox.value_or(false);
    const bool known = out.network.empty() || out.network == "auto" || out.network == "bridge" || out.network == "host";
    if (!known) return reader.wrong(node, "worker.oci.networkMode is auto, bridge or host");
    if (enabled == false) return reader.wrong(node, "worker.oci cannot be disabled: it is the only worker");
    return {};
}

Result<> read_containerd_worker(const Reader& reader, const toml::node& node) {
    const toml::table* table = node.as_table();
    if (table == nullptr) return reader.wrong(node, "[worker.containerd] must be a table");
    if (const toml::node* enabled = table->get("enabled"); enabled != nullptr && enabled->value_exact<bool>() == false)
        return {};
    return reader.wrong(node, "worker.containerd is not supported: steps are run without containerd");
}

}  // namespace

Result<DiskSpace> parse_disk_space(std::string_view text) {
    const std::string lower = to_lower(trim(text));
    const std::size_t digits = lower.find_first_not_of("0123456789");
    const auto number = parse_int(lower.substr(0, digits));
    std::string unit = digits == std::string::npos ? "" : std::string(trim(lower.substr(digits)));
    if (!number || *number < 0) return bad_input("{} is no size", quoted(text));
    if (unit == "%") {
        if (*number > 100) return bad_input("{} is more than the disk", quoted(text));
        return DiskSpace{.percent = static_cast<int>(*number)};
    }
    if (unit.ends_with("ib")) unit.resize(unit.size() - 2);
    if (unit.ends_with("b")) unit.resize(unit.size() - 1);
    constexpr std::string_view kUnits = "kmgtp";
    const std::size_t step = unit.empty() ? 0 : kUnits.find(unit) + 1;
    if (unit.size() > 1 || (!unit.empty() && step == 0) || *number > (std::int64_t{1} << 62) >> (10 * step))
        return bad_input("{} is no size such as 20GB or 10%", quoted(text));
    return DiskSpace{.bytes = static_cast<std::uint64_t>(*number) << (10 * step)};
}

std::uint64_t bytes_of(const DiskSpace& space, const std::string& root) {
    if (space.percent == 0) return space.bytes;
    // The state directory may have to be made yet: its nearest parent is on the same disk.
    struct statvfs disk{};
    for (std::string path = root;; path.resize(path.rfind('/'))) {
        if (::statvfs(path.empty() ? "/" : path.c_str(), &disk) == 0 || path.find('/') == std::string::npos) break;
    }
    return std::uint64_t{disk.f_blocks} * disk.f_frsize / 100 * static_cast<std::uint64_t>(space.percent);
}

Result<FileOptions> parse_file_options(std::string_view text, std::string_view file_name) {
    const toml::parse_result parsed = toml::parse(text, file_name);
    if (!parsed) {
        return bad_input("{}:{}: {}", file_name, parsed.error().source().begin.line, parsed.error().description());
    }
    const Reader reader(file_name);
    FileOptions out;
    const auto tls = [&](const toml::node& node) {
        return reader.table(node, "grpc.tls",
                            {{"cert", reader.text(out.tls.certificate)},
                             {"key", reader.text(out.tls.key)},
                             {"ca", reader.text(out.tls.client_ca)}});
    };
    const auto grpc = [&](const toml::node& node) {
        return reader.table(node, "grpc",
                            {{"address", reader.texts(out.addresses)},
                             {"debugAddress", reader.text(out.debug_address)},
                             {"uid", reader.optional_number(out.uid)},
                             {"gid", reader.optional_number(out.gid)},
                             {"securityDescriptor", reader.refused("grpc.securityDescriptor", "it is Windows'")},
                             {"tls", tls}});
    };
    const auto worker = [&](const toml::node& node) {
        return reader.table(
            node, "worker",
            {{"oci", [&](const toml::node& oci) { return read_oci_worker(reader, oci, out); }},
             {"containerd", [&](const toml::node& table) { return read_containerd_worker(reader, table); }}});
    };
    const auto history = [&](const toml::node& node) {
        return reader.table(
            node, "history",
            {{"maxAge", reader.seconds([&](std::int64_t s) { out.history.max_age = std::chrono::seconds(s); })},
             {"maxEntries", reader.number(out.history.max_records)}});
    };
    std::optional<bool> trace;
    const auto ignored_names = [&](std::string name, std::string why) {
        return reader.refused(std::move(name), std::move(why));
    };
    TRY(reader.table(
        parsed.table(), "",
        {{"root", reader.text(out.root)},
         {"debug", reader.optional_flag(out.debug)},
         {"trace", reader.optional_flag(trace)},
         {"insecure-entitlements", reader.texts(out.entitlements)},
         {"provenanceEnvDir", reader.text(out.engine.provenance_env_dir)},
         {"log",
          [&](const toml::node& node) {
              return reader.table(node, "log", {{"format", reader.only("log.format", {"text"}, "the log is text")}});
          }},
         {"dns",
          [&](const toml::node& node) {
              return reader.table(
                  node, "dns",
                  {{"nameservers", reader.texts(out.engine.dns)},
                   {"options", ignored_names("dns.options", "only name servers can be set")},
                   {"searchDomains", ignored_names("dns.searchDomains", "only name servers can be set")}});
          }},
         {"grpc", grpc},
         {"otel",
          [&](const toml::node& node) {
              return reader.table(node, "otel",
                                  {{"socketPath", ignored_names("otel.socketPath",
                                                                "steps are given no collector; set "
                                                                "OTEL_EXPORTER_OTLP_ENDPOINT for clients' traces")}});
          }},
         {"cdi",
          [&](const toml::node& node) {
              const toml::table* table = node.as_table();
              if (table != nullptr && table->get("disabled") != nullptr &&
                  table->get("disabled")->value_exact<bool>() == true)
                  return Result<>();
              return Result<>(reader.wrong(node, "cdi is not supported: steps are given no devices"));
          }},
         {"history", history},
         {"worker", worker},
         {"registry", [&](const toml::node& node) { return read_registries(reader, node, out.engine); }},
         {"frontend",
          [&](const toml::node& node) {
              return Result<>(reader.wrong(node, "[frontend] is not supported: frontends cannot be limited"));
          }},
         {"system", [&](const toml::node& node) {
              return Result<>(
                  reader.wrong(node, "[system] is not supported: platforms are looked up when cooperd starts"));
          }}}));
    if (trace == true) out.debug = true;
    return out;
}

}  // namespace cooper::cooperd
