#include "attest/request.hpp"

#include "base/text.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

namespace cooper::attest {

namespace {

using Parameters = std::map<std::string, std::string>;

// As Go's strconv.ParseBool; nothing is true.
Result<bool> parse_flag(std::string_view kind, std::string_view key, std::string_view value) {
    static constexpr std::array<std::string_view, 7> kTrue{"", "1", "t", "T", "TRUE", "true", "True"};
    static constexpr std::array<std::string_view, 6> kFalse{"0", "f", "F", "FALSE", "false", "False"};
    if (std::ranges::find(kTrue, value) != kTrue.end()) return true;
    if (std::ranges::find(kFalse, value) != kFalse.end()) return false;
    return bad_input("{}: {}={} is neither true nor false", kind, key, value);
}

// Clients leave them in.
bool is_common(std::string_view key) { return key == "disabled" || key == "type"; }

Result<bool> is_disabled(std::string_view kind, const Parameters& parameters) {
    const auto found = parameters.find("disabled");
    return found != parameters.end() && TRY(parse_flag(kind, "disabled", found->second));
}

Result<ProvenanceRequest> parse_provenance(const Parameters& parameters) {
    static const std::vector<std::string> kKeys = {"builder-id", "capture-usage", "complete-materials",
                                                   "disabled",   "filename",      "inline-only",
                                                   "mode",       "reproducible",  "version"};
    ProvenanceRequest out;
    for (const auto& [key, value] : parameters) {
        if (key == "mode") {
            if (value == "min") {
                out.detail = Detail::min;
            } else if (value != "max" && value != "full") {
                return bad_input("provenance: mode {} is unknown: want min or max", quoted(value));
            }
        } else if (key == "version") {
            if (value == "v0.2") {
                out.version = Slsa::v02;
            } else if (value != "v1") {
                return bad_input("provenance: version {} is unknown: want v1 or v0.2", quoted(value));
            }
        } else if (key == "inline-only") {
            out.inline_only = TRY(parse_flag("provenance", key, value));
        } else if (key == "reproducible") {
            out.reproducible = TRY(parse_flag("provenance", key, value));
        } else if (key == "complete-materials") {
            out.complete_materials = TRY(parse_flag("provenance", key, value));
        } else if (key == "builder-id") {
            out.builder_id = value;
        } else if (key == "filename") {
            if (value.empty() || value.find('/') != std::string::npos || value == "." || value == "..")
                return bad_input("provenance: {} is no name of a file", quoted(value));
            out.filename = value;
        } else if (key == "capture-usage") {
            if (TRY(parse_flag("provenance", key, value)))
                return bad_input("provenance: capture-usage: what steps use of the machine is not recorded")
                    .with_hint("leave it out; when steps began and ended is recorded with mode=max");
        } else if (!is_common(key)) {
            const auto near = nearest(key, kKeys);
            return bad_input("provenance: unknown parameter {}{}", quoted(key),
                             near ? ", did you mean " + *near + "?" : "")
                .with_hint("parameters: " + join(kKeys, ", "));
        }
    }
    return out;
}

Result<SbomRequest> parse_sbom(const Parameters& parameters) {
    SbomRequest out;
    for (const auto& [key, value] : parameters) {
        if (key == "generator") {
            if (value.empty()) return bad_input("sbom: generator is empty: want the image of a scanner");
            out.generator = value;
        } else if (key == "format" && !parameters.contains("generator")) {
            if (value == "cyclonedx") {
                out.format = SbomFormat::cyclonedx;
            } else if (value != "spdx") {
                return bad_input("sbom: format {} is unknown: want spdx or cyclonedx", quoted(value));
            }
        } else if (!is_common(key)) {
            out.parameters[key] = value;
        }
    }
    if (out.generator.empty() && !out.parameters.empty()) {
        return bad_input("sbom: unknown parameter {}", quoted(out.parameters.begin()->first))
            .with_hint("parameters: format, generator; with a generator any, which it finds in its environment");
    }
    return out;
}

}  // namespace

Result<Requests> parse_requests(const std::map<std::string, Parameters>& attestations) {
    Requests out;
    for (const auto& [kind, parameters] : attestations) {
        if (kind == "provenance") {
            if (!TRY(is_disabled(kind, parameters))) out.provenance = TRY(parse_provenance(parameters));
        } else if (kind == "sbom") {
            if (!TRY(is_disabled(kind, parameters))) out.sbom = TRY(parse_sbom(parameters));
        } else {
            return bad_input("unknown attestation type {}", quoted(kind)).with_hint("types: provenance, sbom");
        }
    }
    return out;
}

}  // namespace cooper::attest
