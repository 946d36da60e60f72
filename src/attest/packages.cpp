#include "attest/packages.hpp"

#include "attest/detail/json_text.hpp"
#include "attest/purl.hpp"
#include "base/text.hpp"

#include <algorithm>
#include <set>

namespace cooper::attest {

namespace {

std::string field_text(std::string_view text) { return std::string(trim(text.substr(0, kMaxField))); }

// Takes the first line off.
std::string_view next_line(std::string_view& rest) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    return line;
}

std::string distro_of(const OsRelease& os) { return os.version.empty() ? os.id : os.id + "-" + os.version; }

// Calls with each paragraph's fields ("Name: value"); lines that continue a field are left out.
template <class Take>
void each_paragraph(std::string_view text, Take take) {
    std::map<std::string, std::string, std::less<>> fields;
    std::size_t count = 0;
    while (!text.empty()) {
        const std::string_view line = next_line(text);
        if (line.empty()) {
            if (!fields.empty()) take(fields);
            fields.clear();
            if (++count > kMaxPackages) return;
            continue;
        }
        if (line.front() == ' ' || line.front() == '\t') continue;
        const auto [name, value] = cut(line, ':');
        if (value && name.size() < 64 && fields.size() < 64) fields.try_emplace(std::string(name), field_text(*value));
    }
    if (!fields.empty()) take(fields);
}

template <class Fields>
std::string get(const Fields& fields, std::string_view name) {
    const auto found = fields.find(name);
    return found == fields.end() ? std::string() : found->second;
}

}  // namespace

OsRelease parse_os_release(std::string_view text) {
    OsRelease os;
    while (!text.empty()) {
        const auto [name, value] = cut(next_line(text), '=');
        if (!value) continue;
        std::string_view plain = trim(*value);
        if (plain.size() >= 2 && (plain.front() == '"' || plain.front() == '\'') && plain.back() == plain.front())
            plain = plain.substr(1, plain.size() - 2);
        if (name == "ID") os.id = field_text(plain);
        if (name == "VERSION_ID") os.version = field_text(plain);
    }
    return os;
}

std::string purl_of(const Package& package) {
    Purl purl{.type = package.type,
              .space = package.space,
              .name = package.name,
              .version = package.version,
              .qualifiers = {{"arch", package.architecture}, {"distro", package.distro}}};
    // An epoch is a qualifier there.
    if (package.type == "rpm") {
        if (const auto colon = purl.version.find(':'); colon != std::string::npos) {
            purl.qualifiers["epoch"] = purl.version.substr(0, colon);
            purl.version.erase(0, colon + 1);
        }
    }
    return to_string(purl);
}

std::vector<Package> parse_dpkg(std::string_view text, const OsRelease& os) {
    std::vector<Package> out;
    each_paragraph(text, [&](const auto& fields) {
        const std::string status = get(fields, "Status");
        const std::string name = get(fields, "Package");
        // Files of status.d have no status.
        if (name.empty() || (!status.empty() && !status.ends_with(" installed"))) return;
        out.push_back({.type = "deb",
                       .space = os.id.empty() ? "debian" : os.id,
                       .name = name,
                       .version = get(fields, "Version"),
                       .architecture = get(fields, "Architecture"),
                       .license = {},
                       .distro = distro_of(os),
                       .path = {},
                       .layer = {}});
    });
    return out;
}

std::vector<Package> parse_apk(std::string_view text, const OsRelease& os) {
    std::vector<Package> out;
    each_paragraph(text, [&](const auto& fields) {
        const std::string name = get(fields, "P");
        if (name.empty()) return;
        out.push_back({.type = "apk",
                       .space = os.id.empty() ? "alpine" : os.id,
                       .name = name,
                       .version = get(fields, "V"),
                       .architecture = get(fields, "A"),
                       .license = get(fields, "L"),
                       .distro = distro_of(os),
                       .path = {},
                       .layer = {}});
    });
    return out;
}

std::optional<Package> parse_python(std::string_view text) {
    std::map<std::string, std::string, std::less<>> first;
    // Only the head of the mail-like text has fields; the rest is prose.
    std::string license;
    while (!text.empty()) {
        const std::string_view line = next_line(text);
        if (line.empty()) break;
        if (line.front() == ' ' || line.front() == '\t') continue;
        const auto [name, value] = cut(line, ':');
        if (!value || first.size() >= 256) continue;
        static constexpr std::string_view kClassifier = "License :: ";
        if (name == "Classifier" && trim(*value).starts_with(kClassifier) && license.empty()) {
            const std::string_view all = trim(*value);
            license = field_text(all.substr(all.rfind(":: ") + 3));
        }
        first.try_emplace(to_lower(name), field_text(*value));
    }
    Package package{.type = "pypi",
                    .space = {},
                    .name = get(first, "name"),
                    .version = get(first, "version"),
                    .architecture = {},
                    .license = get(first, "license-expression"),
                    .distro = {},
                    .path = {},
                    .layer = {}};
    if (package.name.empty()) return std::nullopt;
    if (package.license.empty()) package.license = get(first, "license");
    if (package.license.empty() || package.license == "UNKNOWN" || package.license.size() > 200)
        package.license = license;
    // Names are compared without case and with one kind of dash.
    package.name = to_lower(package.name);
    std::replace(package.name.begin(), package.name.end(), '_', '-');
    return package;
}

std::optional<Package> parse_npm(std::string_view text) {
    const auto json = detail::parse_json(text);
    Package package = detail::package_of("npm", detail::text_of(json, "name"), detail::text_of(json, "version"));
    package.license = detail::text_of(json, "license");
    if (package.name.empty() || package.version.empty()) return std::nullopt;
    if (const auto found = json.find("license"); found != json.end() && found->is_object()) {
        package.license = detail::text_of(*found, "type");
    }
    if (const auto slash = package.name.find('/'); package.name.starts_with('@') && slash != std::string::npos) {
        package.space = package.name.substr(0, slash);
        package.name.erase(0, slash + 1);
    }
    return package;
}

std::optional<Package> parse_gem(std::string_view text, std::string_view file_name) {
    std::string_view stem = file_name;
    if (!stem.ends_with(".gemspec")) return std::nullopt;
    stem.remove_suffix(8);
    // "name-1.2.3" and "name-1.2.3-x86_64-linux": the version begins behind the first dash before a digit.
    std::size_t dash = stem.find('-');
    while (dash != std::string_view::npos && (dash + 1 >= stem.size() || stem[dash + 1] < '0' || stem[dash + 1] > '9'))
        dash = stem.find('-', dash + 1);
    if (dash == std::string_view::npos) return std::nullopt;
    const std::string_view version = stem.substr(dash + 1);
    Package package{.type = "gem",
                    .space = {},
                    .name = field_text(stem.substr(0, dash)),
                    .version = field_text(version.substr(0, version.find('-'))),
                    .architecture = {},
                    .license = {},
                    .distro = {},
                    .path = {},
                    .layer = {}};
    static constexpr std::string_view kLicenses = "s.licenses = [\"";
    if (const auto at = text.find(kLicenses); at != std::string_view::npos) {
        const std::string_view rest = text.substr(at + kLicenses.size());
        package.license = field_text(rest.substr(0, rest.find('"')));
    }
    if (package.name.empty()) return std::nullopt;
    return package;
}

std::vector<Package> parse_go_modules(std::string_view text) {
    std::vector<Package> out;
    const auto add = [&](std::string_view module, std::string_view version) {
        if (module.empty() || out.size() >= kMaxPackages) return;
        Package package{.type = "golang",
                        .space = {},
                        .name = field_text(module),
                        .version = field_text(version),
                        .architecture = {},
                        .license = {},
                        .distro = {},
                        .path = {},
                        .layer = {}};
        if (package.version == "(devel)") package.version.clear();
        if (const auto slash = package.name.rfind('/'); slash != std::string::npos) {
            package.space = package.name.substr(0, slash);
            package.name.erase(0, slash + 1);
        }
        out.push_back(std::move(package));
    };
    while (!text.empty()) {
        const std::vector<std::string> words = split(next_line(text), '\t');
        if (words.size() < 3) continue;
        if (words[0] == "=>" && !out.empty()) {
            out.pop_back();  // it was replaced by this
            add(words[1], words[2]);
        } else if (words[0] == "mod" || words[0] == "dep") {
            add(words[1], words[2]);
        }
    }
    return out;
}

std::string parse_debian_copyright(std::string_view text) {
    if (!text.substr(0, 512).starts_with("Format:")) return {};
    std::vector<std::string> licenses;
    while (!text.empty()) {
        const std::string_view line = next_line(text);
        static constexpr std::string_view kLicense = "License:";
        if (!line.starts_with(kLicense)) continue;
        std::string name = field_text(line.substr(kLicense.size()));
        if (name.empty() || name.size() > 100 || licenses.size() >= 50) continue;
        if (std::ranges::find(licenses, name) == licenses.end()) licenses.push_back(std::move(name));
    }
    std::ranges::sort(licenses);
    return join(licenses, " AND ");
}

}  // namespace cooper::attest
