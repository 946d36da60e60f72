#include "source/git_url.hpp"

#include "base/text.hpp"

#include <algorithm>
#include <array>

namespace cooper::source {
namespace {

constexpr std::array<std::string_view, 5> kSchemes{"http", "https", "ssh", "git", "file"};
constexpr std::size_t kMaxUrlBytes = 8 * 1024;

bool has_control(std::string_view text) {
    return std::ranges::any_of(text, [](char c) { return static_cast<unsigned char>(c) <= ' ' || c == '\x7f'; });
}

Error bad(std::string_view text, std::string_view why) { return bad_input("git address {}: {}", quoted(text), why); }

Result<> take_fragment(std::string_view fragment, GitUrl& url) {
    const auto [ref, subdir] = cut(fragment, ':');
    TRY(check_git_ref(ref));
    url.ref = ref;
    if (subdir) url.subdir = TRY(clean_subdir(*subdir));
    return {};
}

bool is_host_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' ||
           c == '_' || c == ':' || c == '[' || c == ']';
}

Result<> check_host(std::string_view text, const std::string& host) {
    if (host.empty()) return bad(text, "it has no host");
    if (host.starts_with('-')) return bad(text, "a host cannot begin with '-'");
    if (!std::ranges::all_of(host, is_host_char)) return bad(text, "the host has characters it cannot have");
    const bool brackets = host.find_first_of("[]") != std::string::npos;
    if (brackets && (!host.starts_with('[') || !host.contains(']'))) {
        return bad(text, "the brackets of its address do not match");
    }
    return {};
}

}  // namespace

bool is_commit_id(std::string_view ref) {
    return (ref.size() == 40 || ref.size() == 64) &&
           std::ranges::all_of(ref, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

Result<> check_git_ref(std::string_view ref) {
    if (ref.size() > 1024) return bad_input("a git ref is longer than 1024 bytes");
    if (ref.starts_with('-')) return bad_input("git ref {} begins with '-'", quoted(ref));
    constexpr std::string_view kForbidden = "~^:?*[\\";
    if (has_control(ref) || ref.find_first_of(kForbidden) != std::string_view::npos || ref.contains("..") ||
        ref.contains("@{") || ref.ends_with('/') || ref.starts_with('/') || ref.ends_with(".lock")) {
        return bad_input("{} is not a branch, tag or commit of git", quoted(ref));
    }
    return {};
}

Result<std::string> clean_subdir(std::string_view subdir) {
    std::vector<std::string> kept;
    for (const std::string& part : split(subdir, '/')) {
        if (part.empty() || part == ".") continue;
        if (part == "..") return bad_input("subdirectory {} leaves the repository", quoted(subdir));
        if (part.find('\0') != std::string::npos) return bad_input("subdirectory {} has a NUL byte", quoted(subdir));
        kept.push_back(part);
    }
    return join(kept, "/");
}

Result<GitUrl> GitUrl::parse(std::string_view text) {
    if (text.size() > kMaxUrlBytes) return bad_input("a git address is longer than {} bytes", kMaxUrlBytes);
    if (text.starts_with('-')) return bad(text, "it begins with '-'");
    const auto [address, fragment] = cut(text, '#');
    if (has_control(address)) return bad(text, "it contains a space or a control byte");
    GitUrl url;
    if (fragment) TRY(take_fragment(*fragment, url));
    const std::size_t mark = address.find("://");
    if (mark == std::string_view::npos) {
        // user@host:path
        const std::size_t colon = address.find(':');
        const std::size_t at = address.find('@');
        if (colon == std::string_view::npos || at == std::string_view::npos || at > colon) {
            return bad(text, "it is neither a URL nor of the form user@host:path");
        }
        url.scheme = "scp";
        url.userinfo = address.substr(0, at);
        url.host = address.substr(at + 1, colon - at - 1);
        url.path = address.substr(colon + 1);
        TRY(check_host(text, url.host));
        const bool plain_user = !url.userinfo.empty() && !url.userinfo.starts_with('-') &&
                                std::ranges::all_of(url.userinfo, [](char c) { return is_host_char(c) && c != ':'; });
        if (!plain_user) return bad(text, "bad user name");
        if (url.path.empty() || url.path.starts_with('-')) return bad(text, "bad path");
        return url;
    }
    url.scheme = to_lower(address.substr(0, mark));
    if (std::ranges::find(kSchemes, url.scheme) == kSchemes.end()) {
        return bad(text, "the scheme is none of http, https, ssh, git, file");
    }
    std::string_view rest = address.substr(mark + 3);
    const std::size_t slash = rest.find('/');
    if (slash == std::string_view::npos) return bad(text, "it has no path");
    std::string_view authority = rest.substr(0, slash);
    url.path = rest.substr(slash);
    if (const std::size_t at = authority.rfind('@'); at != std::string_view::npos) {
        url.userinfo = authority.substr(0, at);
        authority = authority.substr(at + 1);
        if (url.userinfo.starts_with('-')) return bad(text, "bad user name");
    }
    url.host = authority;
    if (url.scheme == "file") {
        if (!url.host.empty()) return bad(text, "a file address has three slashes");
        return url;
    }
    TRY(check_host(text, url.host));
    return url;
}

std::string GitUrl::remote() const {
    if (scheme == "scp") return userinfo + "@" + host + ":" + path;
    return scheme + "://" + (userinfo.empty() ? "" : userinfo + "@") + host + path;
}

std::string GitUrl::remote_without_credentials() const {
    if (scheme == "scp") return remote();
    // The user of ssh is part of the address; only http has secrets there.
    const bool keep = scheme == "ssh" && !userinfo.contains(':');
    return scheme + "://" + (keep && !userinfo.empty() ? userinfo + "@" : "") + host + path;
}

}  // namespace cooper::source
