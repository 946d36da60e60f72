#include "cli/build_flags.hpp"

#include "base/text.hpp"
#include "cachestore/open.hpp"
#include "codec/path_match.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <unistd.h>

namespace cooper::cli {

Result<std::vector<std::string>> parse_csv(std::string_view line) {
    std::vector<std::string> fields;
    std::string field;
    bool in_quotes = false;
    bool was_quoted = false;
    for (std::size_t i = 0; i < line.size(); ++i) {
        const char c = line[i];
        if (in_quotes) {
            if (c != '"') {
                field += c;
            } else if (i + 1 < line.size() && line[i + 1] == '"') {
                field += '"';
                ++i;
            } else {
                in_quotes = false;
            }
        } else if (c == '"' && field.empty() && !was_quoted) {
            in_quotes = was_quoted = true;
        } else if (c == ',') {
            fields.push_back(std::move(field));
            field.clear();
            was_quoted = false;
        } else {
            field += c;
        }
    }
    if (in_quotes) return bad_input("quote is not closed in {}", quoted(line));
    fields.push_back(std::move(field));
    return fields;
}

namespace {

std::string csv_line(const std::vector<std::string>& fields) {
    std::string line;
    for (const auto& field : fields) {
        if (!line.empty()) line += ',';
        if (field.find_first_of(",\"") == std::string::npos) {
            line += field;
            continue;
        }
        line += '"';
        for (const char c : field) line += c == '"' ? std::string("\"\"") : std::string(1, c);
        line += '"';
    }
    return line;
}

bool says(std::string_view text, bool wanted) {
    const std::string lower = to_lower(text);
    return wanted ? lower == "true" || lower == "1" || lower.empty() : lower == "false" || lower == "0";
}

// One attestation wanted, or none of its kind.
Result<> put_attestation(const std::string& kind, const std::vector<std::string>& fields,
                         std::map<std::string, std::string>& attestations) {
    std::vector<std::string> kept;
    bool disabled = false;
    for (const auto& field : fields) {
        const auto [key, value] = cut(field, '=');
        if (key != "disabled") {
            kept.push_back(field);
        } else if (says(value.value_or("true"), true)) {
            disabled = true;
        } else if (!says(*value, false)) {
            return bad_input("attestation of type {}: disabled={} is neither true nor false", kind, quoted(*value));
        }
    }
    attestations.erase(kind);
    if (!disabled) attestations[kind] = csv_line(kept);
    return {};
}

}  // namespace

Result<> parse_attest(std::string_view flag, std::map<std::string, std::string>& attestations) {
    std::vector<std::string> fields = TRY(parse_csv(flag));
    std::string kind;
    std::erase_if(fields, [&](const std::string& field) {
        if (!field.starts_with("type=")) return false;
        kind = field.substr(5);
        return true;
    });
    if (kind != "provenance" && kind != "sbom") {
        return bad_input("--attest {}: want type=provenance or type=sbom", quoted(flag))
            .with_hint("for example --attest type=provenance,mode=max");
    }
    return put_attestation(kind, fields, attestations);
}

Result<> parse_attest_of(std::string_view kind, std::string_view flag,
                         std::map<std::string, std::string>& attestations) {
    const std::string name(kind);
    if (says(flag, false)) {
        attestations.erase(name);
        return {};
    }
    return put_attestation(name, says(flag, true) ? std::vector<std::string>() : TRY(parse_csv(flag)), attestations);
}

Result<engine::SecretSpec> parse_secret(std::string_view flag) {
    engine::SecretSpec secret;
    std::string type;
    for (const auto& field : TRY(parse_csv(flag))) {
        const auto [key, value] = cut(field, '=');
        if (!value) return bad_input("invalid --secret field {}: want key=value", quoted(field));
        const std::string name = to_lower(key);
        if (name == "id") {
            secret.id = *value;
        } else if (name == "src" || name == "source") {
            secret.file = *value;
        } else if (name == "env") {
            secret.env = *value;
        } else if (name == "type") {
            type = *value;
            if (type != "file" && type != "env") return bad_input("unsupported secret type {}", quoted(type));
        } else if (name == "leak") {
            if (*value != "allow" && *value != "deny")
                return bad_input("--secret {}: leak is allow or deny", quoted(flag));
            secret.leak_allowed = *value == "allow";
        } else if (name == "invalidate") {
            if (*value != "true" && *value != "false")
                return bad_input("--secret {}: invalidate is true or false", quoted(flag));
            secret.invalidate = *value == "true";
        } else {
            const auto near = nearest(name, {"id", "src", "source", "env", "type", "leak", "invalidate"});
            return bad_input("unexpected key {} in --secret {}{}", quoted(key), quoted(flag),
                             near ? ", did you mean " + *near + "?" : "");
        }
    }
    if (secret.id.empty())
        return bad_input("--secret {} needs an id", quoted(flag)).with_hint("write --secret id=NAME,src=FILE");
    if (type == "env" && secret.env.empty()) secret.env = std::exchange(secret.file, "");
    if (secret.file.empty() && secret.env.empty()) {
        if (type != "file" && std::getenv(secret.id.c_str()) != nullptr) {
            secret.env = secret.id;
        } else {
            secret.file = secret.id;
        }
    }
    return secret;
}

Result<engine::SshSpec> parse_ssh(std::string_view flag) {
    const auto [id, value] = cut(flag, '=');
    engine::SshSpec ssh;
    ssh.id = id.empty() ? "default" : std::string(id);
    if (value) ssh.paths = split(*value, ',');
    return ssh;
}

Result<engine::ExportSpec> parse_export(std::string_view flag) {
    engine::ExportSpec spec;
    const std::vector<std::string> fields = TRY(parse_csv(flag));
    if (fields.size() == 1 && fields[0].find('=') == std::string::npos) {
        spec.type = fields[0] == "-" ? "tar" : "local";
        spec.dest = fields[0];
        return spec;
    }
    for (const auto& field : fields) {
        const auto [key, value] = cut(field, '=');
        if (!value) return bad_input("invalid --output field {}: want key=value", quoted(field));
        const std::string name = to_lower(key);
        if (name == "type") {
            spec.type = *value;
        } else if (name == "dest") {
            spec.dest = *value;
        } else {
            // annotation.KEY keeps its case: a key of an image's manifest.
            spec.attrs[name.starts_with("annotation") ? std::string(key) : name] = *value;
        }
    }
    static const std::vector<std::string> kTypes = {"image", "registry", "oci", "docker", "local", "tar", "cacheonly"};
    if (spec.type.empty())
        return bad_input("--output {} needs a type", quoted(flag)).with_hint("types: " + join(kTypes, ", "));
    if (std::find(kTypes.begin(), kTypes.end(), spec.type) == kTypes.end()) {
        const auto near = nearest(spec.type, kTypes);
        return bad_input("unknown output type {}{}", quoted(spec.type), near ? ", did you mean " + *near + "?" : "")
            .with_hint("types: " + join(kTypes, ", "));
    }
    if ((spec.type == "image" || spec.type == "registry" || spec.type == "cacheonly") && !spec.dest.empty()) {
        return bad_input("--output type={} goes to no file: dest={} has no meaning", spec.type, quoted(spec.dest))
            .with_hint("type=oci or type=docker writes an archive, type=local a directory");
    }
    if (spec.type == "registry") {
        spec.type = "image";
        spec.attrs["push"] = "true";
    }
    if (spec.type == "local" && spec.dest.empty()) return bad_input("--output type=local needs dest=DIR");
    if (spec.type == "local" && spec.dest == "-") return bad_input("--output type=local cannot be standard output");
    if ((spec.type == "oci" || spec.type == "tar") && spec.dest.empty()) spec.dest = "-";
    return spec;
}

Result<> check_destinations(const std::vector<engine::ExportSpec>& exports) {
    std::array<char, 4096> directory{};
    const std::string here = ::getcwd(directory.data(), directory.size()) == nullptr ? "/" : directory.data();
    std::map<std::string, const engine::ExportSpec*> places;
    for (const auto& one : exports) {
        if (one.dest.empty()) continue;
        const std::string from = one.dest.starts_with('/') ? "/" : here;
        const std::string place = one.dest == "-" ? "" : codec::rooted_path(from + "/" + one.dest);
        const auto [other, fresh] = places.emplace(place, &one);
        // Trees may be laid over each other.
        if (fresh || (one.type == "local" && other->second->type == "local")) continue;
        return bad_input("--output type={} and --output type={} both go to {}", other->second->type, one.type,
                         place.empty() ? "standard output" : quoted(one.dest));
    }
    return {};
}

namespace {

std::string variable(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
}

// The pull request that this build is of, as the CI systems say it: its number, "" when there is one without a number;
// nullopt: none.
std::optional<std::string> pull_request() {
    if (variable("GITHUB_EVENT_NAME").starts_with("pull_request")) {
        const std::string ref = variable("GITHUB_REF");
        constexpr std::string_view kPull = "refs/pull/";
        return ref.starts_with(kPull) ? ref.substr(kPull.size(), ref.find('/', kPull.size()) - kPull.size()) : "";
    }
    for (const char* name :
         {"CI_MERGE_REQUEST_IID", "CHANGE_ID", "BITBUCKET_PR_ID", "CIRCLE_PR_NUMBER",
          "SYSTEM_PULLREQUEST_PULLREQUESTID", "DRONE_PULL_REQUEST", "TRAVIS_PULL_REQUEST", "BUILDKITE_PULL_REQUEST"}) {
        const std::string value = variable(name);
        if (!value.empty() && value != "false") return value;
    }
    return std::nullopt;
}

// Whoever proposes a change must not say what is built of the accepted ones: such builds have a scope of their own, and
// begin with what the main one has.
void choose_mount_scope(engine::CacheSpec& spec, CacheWay way) {
    if (spec.type == "inline" || spec.attrs.contains("mounts-scope")) return;
    const auto request = pull_request();
    if (!request) return;
    const std::string own = request->empty() ? "pr" : "pr-" + *request;
    spec.attrs["mounts-scope"] = way == CacheWay::to ? own : own + ";main";
}

}  // namespace

Result<engine::CacheSpec> parse_cache(std::string_view flag, CacheWay way) {
    const std::string name = way == CacheWay::from ? "--cache-from" : "--cache-to";
    engine::CacheSpec spec;
    const std::vector<std::string> fields = TRY(parse_csv(flag));
    if (fields.size() == 1 && fields[0].find('=') == std::string::npos) {
        // As docker does: a name is an image; inline says where it is to be.
        if (way == CacheWay::to && fields[0] == "inline") return engine::CacheSpec{"inline", {}};
        engine::CacheSpec named{"registry", {{"ref", fields[0]}}};
        choose_mount_scope(named, way);
        return named;
    }
    for (const auto& field : fields) {
        const auto [key, value] = cut(field, '=');
        if (!value) return bad_input("invalid {} field {}: want key=value", name, quoted(field));
        if (to_lower(key) == "type") {
            spec.type = *value;
        } else {
            spec.attrs[to_lower(key)] = *value;
        }
    }
    const auto& known = way == CacheWay::from ? cachestore::kTypesFrom : cachestore::kTypesTo;
    if (std::find(known.begin(), known.end(), spec.type) == known.end()) {
        return bad_input("{} {}: unknown type {}", name, quoted(flag), quoted(spec.type))
            .with_hint("types: " + join(known, ", "));
    }
    if (spec.type == "registry" || spec.type == "local") {
        const char* place = spec.type == "registry" ? "ref" : way == CacheWay::from ? "src" : "dest";
        if (spec.attrs[place].empty()) return bad_input("{} {} needs {}=…", name, quoted(flag), place);
    }
    choose_mount_scope(spec, way);
    return spec;
}

Result<> parse_build_arg(std::string_view flag, std::map<std::string, std::string>& args) {
    const auto [key, value] = cut(flag, '=');
    if (key.empty()) return bad_input("invalid --build-arg {}: want NAME=VALUE", quoted(flag));
    if (value) {
        args[std::string(key)] = *value;
    } else if (const char* env = std::getenv(std::string(key).c_str()); env != nullptr) {
        args[std::string(key)] = env;
    }
    return {};
}

Result<> parse_build_context(std::string_view flag, std::map<std::string, std::string>& contexts) {
    const auto [name, value] = cut(flag, '=');
    if (!value || name.empty() || value->empty())
        return bad_input("invalid --build-context {}: want NAME=VALUE", quoted(flag));
    contexts[std::string(name)] = *value;
    return {};
}

Result<> parse_platforms(std::string_view flag, std::vector<oci::Platform>& platforms) {
    for (const auto& name : split(flag, ','))
        platforms.push_back(name == "local" ? oci::host_platform() : TRY(oci::parse_platform(name)));
    return {};
}

Result<std::pair<std::string, std::string>> parse_add_host(std::string_view flag) {
    std::size_t at = flag.find('=');
    if (at == std::string_view::npos) at = flag.find(':');
    if (at == std::string_view::npos || at == 0 || at + 1 == flag.size()) {
        return bad_input("invalid --add-host {}: want HOST:IP", quoted(flag));
    }
    std::string address(flag.substr(at + 1));
    if (address.starts_with('[') && address.ends_with(']')) address = address.substr(1, address.size() - 2);
    return std::pair(std::string(flag.substr(0, at)), address);
}

Result<std::int64_t> parse_memory(std::string_view flag) {
    static const std::map<std::string, std::int64_t> kUnits = {{"", 1},          {"b", 1},         {"k", 1 << 10},
                                                               {"kb", 1 << 10},  {"m", 1 << 20},   {"mb", 1 << 20},
                                                               {"g", 1LL << 30}, {"gb", 1LL << 30}};
    const std::size_t digits = std::min(flag.find_first_not_of("0123456789"), flag.size());
    const auto number = parse_int(flag.substr(0, digits));
    const auto unit = kUnits.find(to_lower(flag.substr(digits)));
    if (!number || unit == kUnits.end() || *number > (std::int64_t{1} << 40)) {
        return bad_input("invalid size {}: want a number with b, k, m or g", quoted(flag));
    }
    return *number * unit->second;
}

bool is_http_url(std::string_view context) { return context.starts_with("http://") || context.starts_with("https://"); }

bool is_git_url(std::string_view context) {
    const std::string_view path = context.substr(0, context.find_first_of("#?"));
    if (is_http_url(context)) return path.ends_with(".git");
    if (context.starts_with("git://") || context.starts_with("ssh://") || context.starts_with("file://")) return true;
    if (context.starts_with("github.com/")) return true;
    // scp form: user@host:path
    const std::size_t at = path.find('@');
    const std::size_t colon = path.find(':');
    return at != std::string_view::npos && colon != std::string_view::npos && at < colon &&
           path.substr(0, colon).find('/') == std::string_view::npos;
}

}  // namespace cooper::cli
