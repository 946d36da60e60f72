#include "attest/sbom.hpp"

#include "attest/purl.hpp"
#include "attest/statement.hpp"
#include "base/clock.hpp"
#include "base/text.hpp"
#include "codec/go_json.hpp"
#include "codec/sha256.hpp"

#include <algorithm>
#include <map>
#include <set>

namespace cooper::attest {

namespace {

using codec::GoJson;

constexpr std::string_view kTool = "cooper-" COOPER_VERSION;
constexpr std::string_view kNothing = "NOASSERTION";
constexpr std::string_view kImage = "SPDXRef-DocumentRoot-Image";

std::string time_of(const SbomFacts& facts) {
    return format_rfc3339(Timestamp(std::chrono::seconds(facts.epoch_seconds.value_or(0))));
}

// What is the same for equal packages, and good in an identifier.
std::string id_of(std::string_view prefix, std::string_view name, std::string_view whole) {
    std::string id(prefix);
    for (const char c : name.substr(0, 100)) {
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.';
        id += plain ? c : '-';
    }
    return id + "-" + codec::sha256_of(whole).hex().substr(0, 16);
}

std::string full_name(const Package& package) {
    const bool spaces = package.type == "npm" || package.type == "golang" || package.type == "composer";
    return package.space.empty() || !spaces ? package.name : package.space + "/" + package.name;
}

const SbomLayer* layer_of(const SbomFacts& facts, const std::optional<std::size_t>& layer) {
    return layer && *layer < facts.layers.size() ? &facts.layers[*layer] : nullptr;
}

std::string layer_comment(const SbomLayer& layer) {
    std::string text = "layerID: " + layer.digest.to_string();
    if (!layer.instruction.empty()) text += "\ninstruction: " + layer.instruction;
    return text;
}

// Words of a license that no list knows get a name of their own in the document.
class Licenses {
public:
    std::string declared(const std::string& text) {
        if (text.empty()) return std::string(kNothing);
        if (is_license_expression(text)) return text;
        const std::string id = id_of("LicenseRef-", text.substr(0, 40), text);
        extracted_[id] = text;
        return id;
    }
    void put(GoJson& json) const {
        if (extracted_.empty()) return;
        json.key("hasExtractedLicensingInfos").begin_array();
        for (const auto& [id, text] : extracted_) {
            json.begin_object().field("licenseId", id).field("extractedText", text).field("name", text).end_object();
        }
        json.end_array();
    }

private:
    std::map<std::string, std::string> extracted_;
};

class Spdx {
public:
    explicit Spdx(const SbomFacts& facts) : facts_(facts) {
        for (const auto& package : facts.inventory.packages) {
            const std::string purl = purl_of(package);
            package_ids_.push_back(
                id_of("SPDXRef-Package-" + package.type + "-", full_name(package), purl + "\n" + package.path));
        }
        for (const auto& file : facts.inventory.evidence) file_ids_[file.path] = id_of("SPDXRef-File-", "", file.path);
    }

    std::string text() {
        // What it says is its name.
        const std::string inner = body("");
        return body(codec::sha256_of(inner).hex());
    }

private:
    std::string body(const std::string& identity) {
        GoJson json;
        json.begin_object();
        json.field("spdxVersion", "SPDX-2.3").field("dataLicense", "CC0-1.0").field("SPDXID", "SPDXRef-DOCUMENT");
        json.field("name", facts_.name);
        json.field("documentNamespace", "https://cooper.invalid/spdx/" + identity);
        json.key("creationInfo").begin_object();
        json.key("creators").begin_array().string(fmt::format("Tool: {}", kTool)).end_array();
        json.field("created", time_of(facts_));
        json.end_object();
        if (!facts_.inventory.limits.empty())
            json.field("comment", "incomplete: " + join(facts_.inventory.limits, "; "));
        Licenses licenses;
        put_packages(json, licenses);
        put_files(json);
        licenses.put(json);
        put_relationships(json);
        json.end_object();
        return std::move(json).take();
    }

    void put_packages(GoJson& json, Licenses& licenses) const {
        json.key("packages").begin_array();
        json.begin_object().field("name", facts_.name).field("SPDXID", kImage);
        json.field("downloadLocation", kNothing).key("filesAnalyzed").boolean(false);
        json.field("licenseConcluded", kNothing).field("licenseDeclared", kNothing).field("copyrightText", kNothing);
        json.field("primaryPackagePurpose", "CONTAINER").end_object();
        for (std::size_t i = 0; i < facts_.inventory.packages.size(); ++i) {
            const Package& package = facts_.inventory.packages[i];
            json.begin_object().field("name", full_name(package)).field("SPDXID", package_ids_[i]);
            if (!package.version.empty()) json.field("versionInfo", package.version);
            json.field("supplier", kNothing).field("downloadLocation", kNothing);
            json.key("filesAnalyzed").boolean(false);
            json.field("sourceInfo", "found in /" + package.path);
            json.field("licenseConcluded", kNothing).field("licenseDeclared", licenses.declared(package.license));
            json.field("copyrightText", kNothing);
            if (const SbomLayer* layer = layer_of(facts_, package.layer)) json.field("comment", layer_comment(*layer));
            json.key("externalRefs").begin_array().begin_object();
            json.field("referenceCategory", "PACKAGE-MANAGER").field("referenceType", "purl");
            json.field("referenceLocator", purl_of(package));
            json.end_object().end_array().end_object();
        }
        json.end_array();
    }

    void put_files(GoJson& json) const {
        if (facts_.inventory.evidence.empty()) return;
        json.key("files").begin_array();
        for (const auto& file : facts_.inventory.evidence) {
            json.begin_object().field("fileName", "/" + file.path).field("SPDXID", file_ids_.at(file.path));
            json.key("checksums").begin_array().begin_object();
            json.field("algorithm", "SHA1").field("checksumValue", file.sha1).end_object();
            json.begin_object().field("algorithm", "SHA256").field("checksumValue", file.sha256.hex());
            json.end_object().end_array();
            json.field("licenseConcluded", kNothing).field("copyrightText", kNothing);
            if (const SbomLayer* layer = layer_of(facts_, file.layer)) json.field("comment", layer_comment(*layer));
            json.end_object();
        }
        json.end_array();
    }

    void put_relationships(GoJson& json) const {
        json.key("relationships").begin_array();
        const auto relate = [&](std::string_view from, std::string_view how, std::string_view to) {
            json.begin_object().field("spdxElementId", from).field("relationshipType", how);
            json.field("relatedSpdxElement", to);
        };
        relate("SPDXRef-DOCUMENT", "DESCRIBES", kImage);
        json.end_object();
        for (std::size_t i = 0; i < package_ids_.size(); ++i) {
            relate(kImage, "CONTAINS", package_ids_[i]);
            json.end_object();
            const auto file = file_ids_.find(facts_.inventory.packages[i].path);
            if (file == file_ids_.end()) continue;
            relate(package_ids_[i], "OTHER", file->second);
            json.field("comment", "evident-by: the package is known from the given file").end_object();
        }
        json.end_array();
    }

    const SbomFacts& facts_;
    std::vector<std::string> package_ids_;
    std::map<std::string, std::string> file_ids_;
};

// The first 32 digits of a digest as a UUID of version 5's looks.
std::string uuid_of(const std::string& hex) {
    std::string id = hex.substr(0, 32);
    id[12] = '5';
    id[16] = '8';
    return fmt::format("urn:uuid:{}-{}-{}-{}-{}", id.substr(0, 8), id.substr(8, 4), id.substr(12, 4), id.substr(16, 4),
                       id.substr(20));
}

std::string cyclonedx_of(const SbomFacts& facts, const std::string& serial) {
    GoJson json;
    json.begin_object();
    json.field("bomFormat", "CycloneDX").field("specVersion", "1.5");
    if (!serial.empty()) json.field("serialNumber", serial);
    json.key("version").integer(1);
    json.key("metadata").begin_object();
    json.field("timestamp", time_of(facts));
    json.key("tools").begin_object().key("components").begin_array();
    json.begin_object().field("type", "application").field("name", "cooper").field("version", COOPER_VERSION);
    json.end_object().end_array().end_object();
    json.key("component").begin_object().field("type", "container").field("bom-ref", "image");
    json.field("name", facts.name).end_object();
    if (!facts.inventory.limits.empty()) {
        json.key("properties").begin_array().begin_object().field("name", "cooper:incomplete");
        json.field("value", join(facts.inventory.limits, "; ")).end_object().end_array();
    }
    json.end_object();
    json.key("components").begin_array();
    for (const auto& package : facts.inventory.packages) {
        const std::string purl = purl_of(package);
        json.begin_object().field("type", "library");
        json.field("bom-ref", purl + "#" + codec::sha256_of(package.path).hex().substr(0, 16));
        if (!package.space.empty()) json.field("group", package.space);
        json.field("name", package.name).field("version", package.version);
        if (!package.license.empty()) {
            json.key("licenses").begin_array().begin_object();
            if (is_license_expression(package.license)) {
                json.field("expression", package.license);
            } else {
                json.key("license").begin_object().field("name", package.license).end_object();
            }
            json.end_object().end_array();
        }
        json.field("purl", purl);
        json.key("properties").begin_array();
        json.begin_object().field("name", "cooper:path").field("value", "/" + package.path).end_object();
        if (const SbomLayer* layer = layer_of(facts, package.layer)) {
            json.begin_object().field("name", "cooper:layer").field("value", layer->digest.to_string()).end_object();
            if (!layer->instruction.empty()) {
                json.begin_object().field("name", "cooper:instruction").field("value", layer->instruction);
                json.end_object();
            }
        }
        json.end_array().end_object();
    }
    json.end_array().end_object();
    return std::move(json).take();
}

bool is_known_license(std::string_view id) {
    static const std::set<std::string_view> kKnown = {"0BSD",
                                                      "AFL-2.1",
                                                      "AFL-3.0",
                                                      "AGPL-3.0-only",
                                                      "AGPL-3.0-or-later",
                                                      "Apache-1.1",
                                                      "Apache-2.0",
                                                      "Artistic-1.0",
                                                      "Artistic-2.0",
                                                      "BSD-1-Clause",
                                                      "BSD-2-Clause",
                                                      "BSD-3-Clause",
                                                      "BSD-4-Clause",
                                                      "BSL-1.0",
                                                      "BlueOak-1.0.0",
                                                      "CC-BY-3.0",
                                                      "CC-BY-4.0",
                                                      "CC-BY-SA-4.0",
                                                      "CC0-1.0",
                                                      "CDDL-1.0",
                                                      "CDDL-1.1",
                                                      "EPL-1.0",
                                                      "EPL-2.0",
                                                      "GFDL-1.3-or-later",
                                                      "GPL-1.0-or-later",
                                                      "GPL-2.0",
                                                      "GPL-2.0-only",
                                                      "GPL-2.0-or-later",
                                                      "GPL-3.0",
                                                      "GPL-3.0-only",
                                                      "GPL-3.0-or-later",
                                                      "HPND",
                                                      "ISC",
                                                      "LGPL-2.0-only",
                                                      "LGPL-2.0-or-later",
                                                      "LGPL-2.1",
                                                      "LGPL-2.1-only",
                                                      "LGPL-2.1-or-later",
                                                      "LGPL-3.0",
                                                      "LGPL-3.0-only",
                                                      "LGPL-3.0-or-later",
                                                      "MIT",
                                                      "MIT-0",
                                                      "MPL-1.1",
                                                      "MPL-2.0",
                                                      "MS-PL",
                                                      "NCSA",
                                                      "OFL-1.1",
                                                      "OpenSSL",
                                                      "PSF-2.0",
                                                      "Python-2.0",
                                                      "Ruby",
                                                      "Unicode-3.0",
                                                      "Unicode-DFS-2016",
                                                      "Unlicense",
                                                      "Vim",
                                                      "W3C",
                                                      "WTFPL",
                                                      "X11",
                                                      "Zlib",
                                                      "ZPL-2.1",
                                                      "bzip2-1.0.6",
                                                      "curl"};
    return kKnown.contains(id);
}

}  // namespace

// LICENSE { (AND | OR) LICENSE }, with parentheses around any of it.
bool is_license_expression(std::string_view text) {
    bool want_license = true;
    int open = 0;
    std::size_t at = 0;
    while (at < text.size()) {
        if (text[at] == ' ') {
            ++at;
        } else if (text[at] == '(') {
            if (!want_license || ++open > 20) return false;
            ++at;
        } else if (text[at] == ')') {
            if (want_license || --open < 0) return false;
            ++at;
        } else {
            const std::size_t end = std::min(text.find_first_of(" ()", at), text.size());
            const std::string_view word = text.substr(at, end - at);
            if (want_license ? !is_known_license(word) : word != "AND" && word != "OR") return false;
            want_license = !want_license;
            at = end;
        }
    }
    return !want_license && open == 0;
}

std::string make_sbom(const SbomFacts& facts, SbomFormat format) {
    if (format == SbomFormat::spdx) return Spdx(facts).text();
    return cyclonedx_of(facts, uuid_of(codec::sha256_of(cyclonedx_of(facts, "")).hex()));
}

std::string_view predicate_type_of(SbomFormat format) { return format == SbomFormat::spdx ? kSpdx : kCycloneDx; }

std::string_view file_name_of(SbomFormat format) {
    return format == SbomFormat::spdx ? "sbom.spdx.json" : "sbom.cdx.json";
}

}  // namespace cooper::attest
