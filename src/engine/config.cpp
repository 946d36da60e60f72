#include "engine/config.hpp"

#include "base/text.hpp"

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <sys/stat.h>
#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>
#include <unistd.h>

namespace cooper::engine {

Result<std::chrono::seconds> parse_age(std::string_view text) {
    std::int64_t total = 0;
    std::string_view rest = text;
    while (!rest.empty()) {
        const std::size_t digits = rest.find_first_not_of("0123456789");
        const auto number = parse_int(rest.substr(0, digits));
        if (!number) return bad_input("invalid duration {}", quoted(text)).with_hint("write 30m, 24h or 168h");
        const char unit = digits == std::string_view::npos ? 's' : rest[digits];
        const std::int64_t factor = unit == 's' ? 1 : unit == 'm' ? 60 : unit == 'h' ? 3600 : unit == 'd' ? 86400 : 0;
        if (factor == 0 || *number > 10'000'000) {
            return bad_input("invalid duration {}", quoted(text)).with_hint("write 30m, 24h or 168h");
        }
        total += *number * factor;
        rest.remove_prefix(digits == std::string_view::npos ? rest.size() : digits + 1);
    }
    return std::chrono::seconds(total);
}

namespace {

class Reader {
public:
    explicit Reader(std::string_view file) : file_(file) {}

    Error wrong(const toml::node& node, std::string text) const {
        const int line = static_cast<int>(node.source().begin.line);
        return bad_input("{}:{}: {}", file_, line, text).with_detail(SourceRange{std::string(file_), line, line, 0, 0});
    }

    template <class T>
    Result<> value(const toml::node& node, std::string_view key, T& out) const {
        if constexpr (std::is_same_v<T, std::vector<std::string>>) {
            const toml::array* array = node.as_array();
            if (array == nullptr) return wrong(node, fmt::format("{} must be a list of strings", key));
            for (const auto& item : *array) {
                const auto text = item.template value_exact<std::string>();
                if (!text) return wrong(item, fmt::format("{} must be a list of strings", key));
                out.push_back(*text);
            }
            return {};
        } else if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
            const auto number = node.value_exact<std::int64_t>();
            if (!number || *number < 0) return wrong(node, fmt::format("{} must be a number, 0 or more", key));
            out = static_cast<T>(*number);
            return {};
        } else {
            const auto got = node.value_exact<T>();
            if (!got) {
                return wrong(node,
                             fmt::format("{} must be {}", key, std::is_same_v<T, bool> ? "true or false" : "a string"));
            }
            out = *got;
            return {};
        }
    }

    Error unknown(const toml::node& node, std::string_view key, const std::vector<std::string>& known) const {
        std::string text = fmt::format("unknown key {}", quoted(key));
        if (const auto suggestion = nearest(key, known)) text += fmt::format(", did you mean {}?", *suggestion);
        return wrong(node, text);
    }

    Result<> disk_size(const toml::node& node, std::string_view key, DiskSize& out) const {
        const auto text = node.value_exact<std::string>();
        if (text && text->ends_with('%')) {
            const auto percent = parse_int(text->substr(0, text->size() - 1));
            if (!percent || *percent < 1 || *percent > 100)
                return wrong(node, fmt::format("{} must be a size such as \"20GB\" or \"10%\"", key));
            out = DiskSize{.bytes = 0, .percent = static_cast<int>(*percent)};
            return {};
        }
        std::uint64_t bytes = 0;
        TRY(size(node, key, bytes));
        out = DiskSize{.bytes = bytes, .percent = 0};
        return {};
    }

    // Seconds, or a duration such as "48h".
    Result<> duration(const toml::node& node, std::string_view key, std::int64_t& out) const {
        if (const auto number = node.value_exact<std::int64_t>(); number && *number >= 0) {
            out = *number;
            return {};
        }
        const auto text = node.value_exact<std::string>();
        const auto parsed = text ? parse_age(*text) : Result<std::chrono::seconds>(bad_input("no text"));
        if (!parsed) return wrong(node, fmt::format("{} must be seconds, or a duration such as \"48h\"", key));
        out = parsed->count();
        return {};
    }

    Result<> size(const toml::node& node, std::string_view key, std::uint64_t& out) const {
        if (const auto number = node.value_exact<std::int64_t>(); number && *number >= 0) {
            out = static_cast<std::uint64_t>(*number);
            return {};
        }
        const auto text = node.value_exact<std::string>();
        if (!text) return wrong(node, fmt::format("{} must be a size such as \"20GB\"", key));
        const std::string lower = to_lower(*text);
        const std::size_t digits = lower.find_first_not_of("0123456789");
        const auto number = parse_int(lower.substr(0, digits));
        const std::string unit = digits == std::string::npos ? "" : lower.substr(digits);
        static const std::map<std::string, std::uint64_t> kUnits = {
            {"", 1}, {"b", 1}, {"kb", 1'000}, {"mb", 1'000'000}, {"gb", 1'000'000'000}, {"tb", 1'000'000'000'000}};
        const auto factor = kUnits.find(unit);
        if (!number || factor == kUnits.end())
            return wrong(node, fmt::format("{} must be a size such as \"20GB\"", key));
        out = static_cast<std::uint64_t>(*number) * factor->second;
        return {};
    }

private:
    std::string_view file_;
};

Result<RegistryHost> read_registry(const Reader& reader, const toml::table& table) {
    RegistryHost host;
    for (const auto& [name, node] : table) {
        const std::string_view key = name.str();
        if (key == "mirrors") {
            TRY(reader.value(node, key, host.mirrors));
        } else if (key == "http") {
            bool plain = false;
            TRY(reader.value(node, key, plain));
            host.plain_http = plain;
        } else if (key == "insecure") {
            TRY(reader.value(node, key, host.insecure));
        } else if (key == "ca") {
            TRY(reader.value(node, key, host.ca_file));
        } else {
            return reader.unknown(node, key, {"mirrors", "http", "insecure", "ca"});
        }
    }
    return host;
}

Result<> read_gc(const Reader& reader, const toml::table& table, GcConfig& gc) {
    for (const auto& [name, node] : table) {
        const std::string_view key = name.str();
        if (key == "enabled") {
            TRY(reader.value(node, key, gc.enabled));
        } else if (key == "keep-storage") {
            TRY(reader.size(node, key, gc.keep_storage_bytes));
        } else if (key == "keep-duration-seconds") {
            TRY(reader.value(node, key, gc.keep_duration_s));
        } else if (key == "keep-duration") {
            TRY(reader.duration(node, key, gc.keep_duration_s));
        } else if (key == "reserved") {
            TRY(reader.disk_size(node, key, gc.reserved));
        } else if (key == "min-free") {
            TRY(reader.disk_size(node, key, gc.min_free));
        } else {
            return reader.unknown(
                node, key,
                {"enabled", "keep-storage", "keep-duration", "keep-duration-seconds", "reserved", "min-free"});
        }
    }
    return {};
}

}  // namespace

Result<ops::OnLeak> parse_on_leak(std::string_view text) {
    if (text == "fail") return ops::OnLeak::fail;
    if (text == "warn") return ops::OnLeak::warn;
    if (text == "allow") return ops::OnLeak::allow;
    return bad_input("{}: want fail, warn or allow", quoted(text));
}

Result<Config> parse_config(std::string_view text, std::string_view file_name) {
    const toml::parse_result parsed = toml::parse(text, file_name);
    if (!parsed) {
        const auto& error = parsed.error();
        return bad_input("{}:{}: {}", file_name, error.source().begin.line, error.description());
    }
    const Reader reader(file_name);
    Config config;
    for (const auto& [name, node] : parsed.table()) {
        const std::string_view key = name.str();
        if (key == "root") {
            TRY(reader.value(node, key, config.root));
        } else if (key == "oci-runtime") {
            TRY(reader.value(node, key, config.oci_runtime));
        } else if (key == "emulators") {
            TRY(reader.value(node, key, config.emulators));
        } else if (key == "max-disk") {
            TRY(reader.disk_size(node, key, config.max_disk));
        } else if (key == "jobs") {
            TRY(reader.value(node, key, config.jobs));
        } else if (key == "docker-config") {
            TRY(reader.value(node, key, config.docker_config));
        } else if (key == "secret-leaks") {
            std::string chosen;
            TRY(reader.value(node, key, chosen));
            const auto choice = parse_on_leak(chosen);
            if (!choice) return reader.wrong(node, choice.error().message());
            config.secret_leaks = *choice;
        } else if (key == "tag-max-age-seconds") {
            TRY(reader.value(node, key, config.tag_max_age_s));
        } else if (key == "dns") {
            TRY(reader.value(node, key, config.dns));
        } else if (key == "provenance-env-dir") {
            TRY(reader.value(node, key, config.provenance_env_dir));
        } else if (key == "limits" && node.is_table()) {
            for (const auto& [limit, limit_node] : *node.as_table()) {
                if (limit.str() == "max-layer-size") {
                    TRY(reader.size(limit_node, limit.str(), config.max_layer_bytes));
                } else if (limit.str() == "max-layer-files") {
                    TRY(reader.value(limit_node, limit.str(), config.max_layer_files));
                } else {
                    return reader.unknown(limit_node, limit.str(), {"max-layer-size", "max-layer-files"});
                }
            }
        } else if (key == "cdi" && node.is_table()) {
            for (const auto& [cdi_name, cdi_node] : *node.as_table()) {
                if (cdi_name.str() != "spec-dirs") return reader.unknown(cdi_node, cdi_name.str(), {"spec-dirs"});
                TRY(reader.value(cdi_node, cdi_name.str(), config.cdi_spec_dirs));
            }
        } else if (key == "gc" && node.is_table()) {
            TRY(read_gc(reader, *node.as_table(), config.gc));
        } else if (key == "registry" && node.is_table()) {
            for (const auto& [host, host_node] : *node.as_table()) {
                if (!host_node.is_table())
                    return reader.wrong(host_node, "write [registry.\"host\"] with keys below it");
                config.registries[std::string(host.str())] = TRY(read_registry(reader, *host_node.as_table()));
            }
        } else {
            return reader.unknown(node, key,
                                  {"root", "oci-runtime", "max-disk", "jobs", "docker-config", "tag-max-age-seconds",
                                   "secret-leaks", "dns", "provenance-env-dir", "limits", "cdi", "gc", "registry"});
        }
    }
    return config;
}

Result<Config> load_config(const std::string& host_path) {
    struct stat st{};
    if (::stat(host_path.c_str(), &st) != 0) return fail_errno(errno, "configuration " + host_path);
    if (st.st_size > 1 << 20) return bad_input("configuration {} is larger than 1 MiB", host_path);
    const std::ifstream file(host_path);
    std::ostringstream text;
    text << file.rdbuf();
    if (!file) return fail(Code::unknown, Blame::world, "cannot read configuration {}", host_path);
    return parse_config(text.str(), host_path);
}

Result<std::string> choose_root(const std::string& flag, const Config& config) {
    const auto absolute = [](const std::string& path) {
        if (path.starts_with('/')) return path;
        std::string cwd(4096, '\0');
        if (::getcwd(cwd.data(), cwd.size()) == nullptr) return path;
        return std::string(cwd.c_str()) + "/" + path;
    };
    if (!flag.empty()) return absolute(flag);
    if (const char* env = std::getenv("COOPER_ROOT"); env != nullptr && *env != '\0') return absolute(env);
    if (!config.root.empty()) return absolute(config.root);
    // In a user namespace of our own the user looks like root and is not.
    if (::geteuid() == 0 && std::getenv("COOPER_ROOTLESS") == nullptr) return std::string("/var/lib/cooper");
    if (const char* data = std::getenv("XDG_DATA_HOME"); data != nullptr && *data == '/') {
        return std::string(data) + "/cooper";
    }
    if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/') {
        return std::string(home) + "/.local/share/cooper";
    }
    return bad_input("no place for cooper's state: neither HOME nor XDG_DATA_HOME is set").with_hint("use --root DIR");
}

std::string default_provenance_env_dir() {
    constexpr std::string_view kBelow = "/cooper/provenance.d";
    if (::geteuid() == 0 && std::getenv("COOPER_ROOTLESS") == nullptr) return "/etc" + std::string(kBelow);
    if (const char* config = std::getenv("XDG_CONFIG_HOME"); config != nullptr && *config == '/')
        return config + std::string(kBelow);
    if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/')
        return home + std::string("/.config") + std::string(kBelow);
    return "";
}

}  // namespace cooper::engine
