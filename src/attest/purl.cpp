#include "attest/purl.hpp"

#include "base/text.hpp"

#include <string_view>

namespace cooper::attest {

namespace {

bool is_plain(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
           c == '_' || c == '~' || c == ':';
}

void append_escaped(std::string& out, std::string_view text) {
    static constexpr std::string_view kHex = "0123456789ABCDEF";
    for (const char c : text) {
        if (is_plain(c)) {
            out += c;
            continue;
        }
        const auto byte = static_cast<unsigned char>(c);
        out += '%';
        out += kHex[byte >> 4U];
        out += kHex[byte & 15U];
    }
}

}  // namespace

std::string to_string(const Purl& purl) {
    std::string out = "pkg:" + purl.type;
    for (const auto& segment : split(purl.space, '/')) {
        if (segment.empty()) continue;
        out += '/';
        append_escaped(out, segment);
    }
    out += '/';
    append_escaped(out, purl.name);
    if (!purl.version.empty()) {
        out += '@';
        append_escaped(out, purl.version);
    }
    char before = '?';
    for (const auto& [key, value] : purl.qualifiers) {
        if (value.empty()) continue;
        out += before;
        before = '&';
        out += key;
        out += '=';
        append_escaped(out, value);
    }
    return out;
}

std::string image_purl(const oci::Reference& reference, const std::optional<oci::Platform>& platform) {
    Purl purl{.type = "docker", .space = {}, .name = reference.familiar_repository(), .version = {}, .qualifiers = {}};
    if (const auto slash = purl.name.rfind('/'); slash != std::string::npos) {
        purl.space = purl.name.substr(0, slash);
        purl.name.erase(0, slash + 1);
    }
    purl.version = reference.tag();
    if (!reference.digest().empty()) {
        purl.qualifiers["digest"] = reference.digest().to_string();
    } else if (purl.version.empty()) {
        purl.version = "latest";
    }
    if (platform) purl.qualifiers["platform"] = oci::format_platform(oci::normalize(*platform));
    return to_string(purl);
}

}  // namespace cooper::attest
