#include "frontend/git_ref.hpp"

#include "base/text.hpp"

#include <algorithm>
#include <map>
#include <vector>

namespace cooper::frontend {

namespace {

bool is_word(std::string_view text) {
    return !text.empty() && std::ranges::all_of(text, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
               c == '.';
    });
}

std::optional<std::string> unescape(std::string_view text, char space) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '%') {
            std::uint8_t byte = 0;
            if (i + 2 >= text.size()) return std::nullopt;
            if (!from_hex(to_lower(text.substr(i + 1, 2)), {&byte, 1})) return std::nullopt;
            out += static_cast<char>(byte);
            i += 2;
        } else if (text[i] == '+' && space == '+') {
            out += ' ';
        } else {
            out += text[i];
        }
    }
    return out;
}

struct Parts {
    std::string scheme;  // "ssh" for user@host:path
    std::string path;
    std::string remote;
    std::string query;
    std::string fragment;
};

void split_tail(std::string_view text, Parts& parts) {
    const auto [before, fragment] = cut(text, '#');
    parts.fragment = fragment.value_or("");
    const auto [plain, query] = cut(before, '?');
    parts.query = query.value_or("");
    parts.remote = plain;
}

// "user@host:path", which git takes for ssh. The path may not start with "//".
bool parse_scp(std::string_view text, Parts& parts) {
    const std::size_t at = text.find('@');
    if (at == std::string_view::npos || !is_word(text.substr(0, at))) return false;
    const std::string_view rest = text.substr(at + 1);
    const std::size_t colon = rest.find(':');
    if (colon == std::string_view::npos || !is_word(rest.substr(0, colon))) return false;
    split_tail(text, parts);
    if (parts.remote.size() <= at + 1 + colon + 1) return false;
    parts.scheme = "ssh";
    parts.path = parts.remote.substr(at + 1 + colon + 1);
    return true;
}

bool parse_url(std::string_view text, Parts& parts) {
    const std::size_t end = text.find("://");
    if (end == std::string_view::npos) return false;
    parts.scheme = to_lower(text.substr(0, end));
    if (parts.scheme != "http" && parts.scheme != "https" && parts.scheme != "ssh" && parts.scheme != "git" &&
        parts.scheme != "file") {
        return false;
    }
    split_tail(text, parts);
    const std::size_t slash = parts.remote.find('/', end + 3);
    parts.path = slash == std::string::npos ? "" : parts.remote.substr(slash);
    return true;
}

using Query = std::map<std::string, std::vector<std::string>>;

Result<Query> parse_query(std::string_view text) {
    Query query;
    if (text.empty()) return query;
    for (const std::string& part : split(text, '&')) {
        if (part.empty()) continue;
        const auto [key, value] = cut(part, '=');
        auto plain_key = unescape(key, '+');
        auto plain_value = unescape(value.value_or(""), '+');
        if (!plain_key || !plain_value) return bad_input("malformed query {} of a git URL", quoted(text));
        query[*plain_key].push_back(*plain_value);
    }
    return query;
}

Result<> set_once(std::string& out, std::string_view what, const std::string& value) {
    if (!out.empty() && out != value) return bad_input("{} conflicts: {} vs {}", what, quoted(out), quoted(value));
    out = value;
    return {};
}

Result<bool> flag(const std::string& key, const std::string& value) {
    if (value.empty()) return true;
    const auto parsed = parse_go_bool(value);
    if (!parsed) return bad_input("invalid {} value: {}", key, quoted(value));
    return *parsed;
}

Result<> apply_query(GitRef& git, const Query& query) {
    std::string tag;
    std::string branch;
    for (const auto& [key, values] : query) {
        if (values.size() > 1) return bad_input("query {} has multiple values", quoted(key));
        const std::string& value = values.front();
        const bool is_flag = key == "submodules" || key == "keep-git-dir" || key == "fetch-by-commit";
        if (value.empty() && !is_flag) return bad_input("query {} has no value", quoted(key));
        if (key == "ref") {
            TRY(set_once(git.ref, "ref", value));
        } else if (key == "tag") {
            tag = value.starts_with("refs/tags/") ? value : "refs/tags/" + value;
        } else if (key == "branch") {
            branch = value.starts_with("refs/heads/") ? value : "refs/heads/" + value;
        } else if (key == "subdir") {
            TRY(set_once(git.subdir, "subdir", value));
        } else if (key == "checksum" || key == "commit") {
            TRY(set_once(git.checksum, "checksum", value));
        } else if (key == "keep-git-dir") {
            git.keep_git_dir = TRY(flag(key, value));
        } else if (key == "submodules") {
            git.submodules = TRY(flag(key, value));
        } else if (key == "fetch-by-commit") {
            git.fetch_by_commit = TRY(flag(key, value));
        } else if (key == "mtime") {
            if (value != "checkout" && value != "commit") return bad_input("invalid mtime value: {}", quoted(value));
            git.mtime = value;
        } else {
            return bad_input("unexpected query {}", quoted(key));
        }
    }
    if (!tag.empty()) TRY(set_once(git.ref, "ref", tag));
    if (!branch.empty()) {
        if (!tag.empty()) return bad_input("branch conflicts with tag");
        TRY(set_once(git.ref, "ref", branch));
    }
    if (!git.checksum.empty() && git.ref.empty()) git.ref = git.checksum;
    return {};
}

}  // namespace

std::optional<bool> parse_go_bool(std::string_view text) {
    if (text == "1" || text == "t" || text == "T" || text == "true" || text == "TRUE" || text == "True") return true;
    if (text == "0" || text == "f" || text == "F" || text == "false" || text == "FALSE" || text == "False") {
        return false;
    }
    return std::nullopt;
}

Result<std::optional<GitRef>> parse_git_ref(std::string_view text) {
    if (text.starts_with("./") || text.starts_with("../")) return std::nullopt;
    Parts parts;
    GitRef git;
    if (text.starts_with("github.com/")) {
        git.indistinguishable_from_local = true;
        split_tail(text, parts);
    } else if (parse_url(text, parts)) {
        const bool web = parts.scheme == "http" || parts.scheme == "https";
        if (web && !parts.path.ends_with(".git")) return std::nullopt;
    } else if (!parse_scp(text, parts)) {
        return std::nullopt;
    }
    git.remote = parts.remote;
    const auto fragment = unescape(parts.fragment, ' ');
    if (!fragment) return bad_input("malformed fragment {} of a git URL", quoted(parts.fragment));
    const auto [ref, subdir] = cut(*fragment, ':');
    git.ref = ref;
    git.subdir = subdir.value_or("");
    const Query query = TRY_CONTEXT(parse_query(parts.query), "git URL {}", quoted(text));
    TRY_CONTEXT(apply_query(git, query), "git URL {}", quoted(text));
    return git;
}

}  // namespace cooper::frontend
