#include "oci/reference.hpp"

#include "base/text.hpp"

#include <algorithm>
#include <optional>

namespace cooper::oci {
namespace {

constexpr std::string_view kDefaultDomain = "docker.io";
constexpr std::string_view kLegacyDomain = "index.docker.io";
constexpr std::string_view kOfficialPrefix = "library/";
constexpr std::size_t kMaxNameBytes = 255;

bool is_lower_alnum(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }
bool is_alnum(char c) { return is_lower_alnum(c) || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

// path-component := [a-z0-9]+ (("." | "_" | "__" | "-"+) [a-z0-9]+)*
bool valid_path_component(std::string_view text) {
    std::size_t i = 0;
    const auto word = [&] {
        const std::size_t start = i;
        while (i < text.size() && is_lower_alnum(text[i])) ++i;
        return i > start;
    };
    if (!word()) return false;
    while (i < text.size()) {
        if (text[i] == '.') {
            ++i;
        } else if (text[i] == '_') {
            ++i;
            if (i < text.size() && text[i] == '_') ++i;
        } else if (text[i] == '-') {
            while (i < text.size() && text[i] == '-') ++i;
        } else {
            return false;
        }
        if (!word()) return false;
    }
    return true;
}

// domain-component := [a-zA-Z0-9] | [a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]
bool valid_domain_component(std::string_view text) {
    if (text.empty() || !is_alnum(text.front()) || !is_alnum(text.back())) return false;
    return std::ranges::all_of(text, [](char c) { return is_alnum(c) || c == '-'; });
}

bool valid_port(std::string_view port) { return !port.empty() && std::ranges::all_of(port, is_digit); }

bool valid_domain(std::string_view text) {
    if (text.starts_with('[')) {  // an IPv6 address
        const std::size_t close = text.find(']');
        if (close == std::string_view::npos || close == 1) return false;
        const std::string_view address = text.substr(1, close - 1);
        const bool hex = std::ranges::all_of(address, [](char c) {
            return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F') || c == ':';
        });
        const std::string_view rest = text.substr(close + 1);
        return hex && (rest.empty() || (rest.starts_with(':') && valid_port(rest.substr(1))));
    }
    const auto [host, port] = cut(text, ':');
    if (port && !valid_port(*port)) return false;
    const std::vector<std::string> parts = split(host, '.');
    return std::ranges::all_of(parts, [](const std::string& part) { return valid_domain_component(part); });
}

bool valid_path(std::string_view text) {
    const std::vector<std::string> parts = split(text, '/');
    return std::ranges::all_of(parts, [](const std::string& part) { return valid_path_component(part); });
}

// tag := [\w][\w.-]{0,127}
bool valid_tag(std::string_view tag) {
    if (tag.empty() || tag.size() > 128) return false;
    if (!is_alnum(tag.front()) && tag.front() != '_') return false;
    return std::ranges::all_of(tag, [](char c) { return is_alnum(c) || c == '_' || c == '.' || c == '-'; });
}

bool is_hex_id(std::string_view text) {
    return text.size() == 64 && std::ranges::all_of(text, [](char c) { return is_digit(c) || (c >= 'a' && c <= 'f'); });
}

struct Split {
    std::string domain;
    std::string remainder;
};

// The first part is a domain when it has a dot or a port, is "localhost", or has upper-case letters
// (which no path may have).
Split split_domain(std::string_view text) {
    Split result;
    const std::size_t slash = text.find('/');
    const std::string_view first = text.substr(0, slash);
    const bool looks_like_domain =
        slash != std::string_view::npos &&
        (first.find_first_of(".:") != std::string_view::npos || first == "localhost" || to_lower(first) != first);
    if (looks_like_domain) {
        result.domain = first;
        result.remainder = text.substr(slash + 1);
    } else {
        result.domain = kDefaultDomain;
        result.remainder = text;
    }
    if (result.domain == kLegacyDomain) result.domain = kDefaultDomain;
    if (result.domain == kDefaultDomain && !result.remainder.contains('/')) {
        result.remainder.insert(0, kOfficialPrefix);
    }
    return result;
}

Error invalid(std::string_view text, std::string_view why) {
    return bad_input("invalid image name {}: {}", quoted(text), why);
}

// Why the path is wrong, for a person who typed it.
Error explain_path(std::string_view text, std::string_view path) {
    if (path.empty()) return invalid(text, "it has no name");
    if (to_lower(path) != path) {
        return invalid(text, "the name must be lower case").with_hint(fmt::format("write {}", to_lower(text)));
    }
    if (text.starts_with("http://") || text.starts_with("https://")) {
        return invalid(text, "it starts like a URL").with_hint("leave out the https://");
    }
    if (path.starts_with('/') || path.ends_with('/') || path.contains("//")) {
        return invalid(text, "it has an empty part between slashes");
    }
    return invalid(text, "a name is letters and digits, joined by '.', '_', '__' or dashes, in parts between slashes");
}

}  // namespace

Result<Reference> Reference::parse_full(std::string_view text) {
    if (text.empty()) return bad_input("an image name is empty");
    if (text.size() > 1024) return bad_input("an image name is {} bytes long, more than 1024", text.size());
    Reference reference;
    std::string_view rest = text;
    if (const std::size_t at = rest.find('@'); at != std::string_view::npos) {
        auto digest = Digest::parse(rest.substr(at + 1));
        if (!digest) {
            return invalid(text, "what follows the '@' is not a digest")
                .with_hint("a digest is sha256: and 64 lower-case hex digits");
        }
        reference.digest_ = *digest;
        rest = rest.substr(0, at);
    }
    std::string name(rest);
    const std::size_t slash = rest.rfind('/');
    const std::size_t colon = rest.find(':', slash == std::string_view::npos ? 0 : slash);
    if (colon != std::string_view::npos) {
        const std::string_view tag = rest.substr(colon + 1);
        if (!valid_tag(tag)) {
            return invalid(text, fmt::format("{} is not a tag", quoted(tag)))
                .with_hint(
                    "a tag is at most 128 letters, digits, '_', '.' and '-', and starts with none of '.' and '-'");
        }
        reference.tag_ = tag;
        name = rest.substr(0, colon);
    }
    Split parts = split_domain(name);
    if (!valid_domain(parts.domain)) {
        return invalid(text, fmt::format("{} is not a registry's host name", quoted(parts.domain)));
    }
    if (!valid_path(parts.remainder)) return explain_path(text, parts.remainder);
    if (is_hex_id(name)) return invalid(text, "64 hex digits would be mistaken for an image id");
    reference.domain_ = std::move(parts.domain);
    reference.path_ = std::move(parts.remainder);
    if (reference.path_.size() > kMaxNameBytes) {
        return invalid(text, fmt::format("the name is longer than {} bytes", kMaxNameBytes));
    }
    return reference;
}

Result<Reference> Reference::parse_normalized(std::string_view text) {
    const Reference reference = TRY(parse_full(text));
    return reference.with_default_tag();
}

Result<Reference> Reference::parse_untagged(std::string_view text) { return parse_full(text); }

Result<Reference> Reference::parse_canonical(std::string_view text) {
    Reference reference = TRY(parse_full(text));
    if (reference.canonical() != text) {
        return invalid(text, "it must be complete")
            .with_hint(fmt::format("write {}", reference.with_default_tag().canonical()));
    }
    if (reference.tag_.empty() && reference.digest_.empty()) {
        return invalid(text, "it needs a tag or a digest");
    }
    return reference;
}

std::string Reference::canonical() const {
    std::string text = repository();
    if (!tag_.empty()) text += ":" + tag_;
    if (!digest_.empty()) text += "@" + digest_.to_string();
    return text;
}

std::string Reference::familiar_repository() const {
    if (domain_ != kDefaultDomain) return repository();
    const std::string_view path = path_;
    if (path.starts_with(kOfficialPrefix)) {
        const std::string_view rest = path.substr(kOfficialPrefix.size());
        if (!rest.contains('/')) return std::string(rest);
    }
    // "docker.io/a.b/c" must keep its domain, for "a.b/c" would be read as one.
    const Split again = split_domain(path_);
    return again.domain == domain_ ? path_ : repository();
}

std::string Reference::familiar() const {
    std::string text = familiar_repository();
    if (!tag_.empty()) text += ":" + tag_;
    if (!digest_.empty()) text += "@" + digest_.to_string();
    return text;
}

Result<Reference> Reference::with_tag(std::string_view tag) const {
    if (!valid_tag(tag)) return bad_input("{} is not a tag", quoted(tag));
    Reference copy = *this;
    copy.tag_ = tag;
    return copy;
}

Reference Reference::with_digest(Digest digest) const {
    Reference copy = *this;
    copy.digest_ = digest;
    return copy;
}

Reference Reference::without_digest() const { return with_digest(Digest()); }

Reference Reference::repository_only() const {
    Reference copy = *this;
    copy.tag_.clear();
    copy.digest_ = Digest();
    return copy;
}

Reference Reference::with_default_tag() const {
    Reference copy = *this;
    if (copy.tag_.empty() && copy.digest_.empty()) copy.tag_ = "latest";
    return copy;
}

}  // namespace cooper::oci
