#include "cli/attestation_text.hpp"

#include "base/text.hpp"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

namespace cooper::cli {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMaxShown = 20;

Json parse(const std::string& text) {
    const auto too_deep = [](int depth, Json::parse_event_t /*event*/, Json& /*parsed*/) { return depth < 200; };
    return Json::parse(text, too_deep, false);
}

// The value below these names; null when it is not there.
template <class... Names>
const Json& at(const Json& json, Names... names) {
    static const Json kNull;
    const Json* value = &json;
    for (const char* name : {names...}) {
        if (!value->is_object()) return kNull;
        const auto found = value->find(name);
        if (found == value->end()) return kNull;
        value = &*found;
    }
    return *value;
}

// One line without control characters: it goes to a terminal.
std::string plain(const Json& value) {
    std::string text = value.is_string() ? value.get<std::string>() : std::string();
    for (char& c : text) {
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = ' ';
    }
    return text;
}

void row(std::string& out, std::string_view name, const std::string& value) {
    if (!value.empty()) out += fmt::format("    {:<12}{}\n", name, value);
}

std::string yes_or_no(const Json& value) {
    return value.is_boolean() ? value.get<bool>() ? "yes" : "no" : std::string();
}

void show_provenance(std::string& out, const Json& predicate) {
    const bool v1 = predicate.contains("buildDefinition");
    const Json& parameters = v1 ? at(predicate, "buildDefinition", "externalParameters") : at(predicate, "invocation");
    const Json& request = at(parameters, v1 ? "request" : "parameters");
    const Json& metadata = v1 ? at(predicate, "runDetails", "metadata") : at(predicate, "metadata");
    row(out, "builder", plain(v1 ? at(predicate, "runDetails", "builder", "id") : at(predicate, "builder", "id")));
    row(out, "frontend", plain(at(request, "frontend")));
    row(out, "source", plain(at(parameters, "configSource", "uri")));
    row(out, "file", plain(at(parameters, "configSource", v1 ? "path" : "entryPoint")));
    if (const Json& args = at(request, "args"); args.is_object()) {
        for (const auto& [key, value] : args.items()) row(out, "argument", plain(Json(key)) + "=" + plain(value));
    }
    const Json& materials = v1 ? at(predicate, "buildDefinition", "resolvedDependencies") : at(predicate, "materials");
    if (materials.is_array()) {
        std::size_t shown = 0;
        for (const auto& material : materials) {
            if (++shown > kMaxShown) break;
            std::string text = plain(at(material, "uri"));
            if (const Json& digests = at(material, "digest"); digests.is_object()) {
                for (const auto& [algorithm, hex] : digests.items())
                    text += fmt::format(" {}:{}", plain(Json(algorithm)), plain(hex));
            }
            row(out, "material", text);
        }
        if (materials.size() > kMaxShown) row(out, "", fmt::format("and {} more", materials.size() - kMaxShown));
    }
    const Json& complete =
        v1 ? at(metadata, "buildkit_completeness", "resolvedDependencies") : at(metadata, "completeness", "materials");
    row(out, "complete", yes_or_no(complete));
    row(out, "hermetic",
        yes_or_no(at(metadata, v1 ? "buildkit_hermetic" : "https://mobyproject.org/buildkit@v1#hermetic")));
    row(out, "started", plain(at(metadata, v1 ? "startedOn" : "buildStartedOn")));
    row(out, "finished", plain(at(metadata, v1 ? "finishedOn" : "buildFinishedOn")));
}

// "deb 88, pypi 2": how many packages there are of each kind.
void show_packages(std::string& out, const std::vector<std::string>& purls) {
    std::map<std::string, std::size_t> kinds;
    for (const auto& purl : purls) {
        if (!purl.starts_with("pkg:")) continue;
        ++kinds[plain(Json(purl.substr(4, purl.find('/') == std::string::npos ? 0 : purl.find('/') - 4)))];
    }
    std::vector<std::string> parts;
    for (const auto& [kind, count] : kinds) parts.push_back(fmt::format("{} {}", kind, count));
    row(out, "packages", parts.empty() ? "none" : join(parts, ", "));
}

void show_spdx(std::string& out, const Json& predicate) {
    row(out, "name", plain(at(predicate, "name")));
    std::vector<std::string> purls;
    if (const Json& packages = at(predicate, "packages"); packages.is_array()) {
        for (const auto& package : packages) {
            const Json& references = at(package, "externalRefs");
            if (!references.is_array()) continue;
            for (const auto& reference : references) {
                if (plain(at(reference, "referenceType")) == "purl")
                    purls.push_back(plain(at(reference, "referenceLocator")));
            }
        }
    }
    show_packages(out, purls);
}

void show_cyclonedx(std::string& out, const Json& predicate) {
    row(out, "name", plain(at(predicate, "metadata", "component", "name")));
    std::vector<std::string> purls;
    if (const Json& components = at(predicate, "components"); components.is_array()) {
        for (const auto& component : components) purls.push_back(plain(at(component, "purl")));
    }
    show_packages(out, purls);
}

}  // namespace

std::string attestations_as_text(const std::vector<engine::Attested>& attestations) {
    std::string out;
    std::string image;
    for (const auto& one : attestations) {
        const std::string heading =
            fmt::format("{}{}\n", one.platform.empty() ? "" : one.platform + " ", one.subject.to_string());
        if (heading != image) out += heading;
        image = heading;
        const Json statement = parse(one.statement);
        const std::string type = plain(at(statement, "predicateType"));
        const Json& predicate = at(statement, "predicate");
        if (type.starts_with("https://slsa.dev/provenance/")) {
            out += fmt::format("  provenance ({})\n", type);
            show_provenance(out, predicate);
        } else if (type == "https://spdx.dev/Document") {
            out += fmt::format("  SBOM ({})\n", type);
            show_spdx(out, predicate);
        } else if (type == "https://cyclonedx.org/bom") {
            out += fmt::format("  SBOM ({})\n", type);
            show_cyclonedx(out, predicate);
        } else {
            out += fmt::format("  {}\n", type.empty() ? "not a statement" : type);
        }
    }
    return out;
}

std::string attestations_as_json(const std::vector<engine::Attested>& attestations) {
    Json list = Json::array();
    for (const auto& one : attestations) {
        Json item;
        item["platform"] = one.platform;
        item["subject"] = one.subject.to_string();
        item["predicateType"] = one.predicate_type;
        item["statement"] = parse(one.statement);
        if (item["statement"].is_discarded()) item["statement"] = nullptr;
        list.push_back(std::move(item));
    }
    return list.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace cooper::cli
