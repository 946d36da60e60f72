// GitUrl: the address of a repository as people and LLB write it, checked so that nothing in it can be
// taken for an option or a command by git or ssh.
#pragma once

#include "base/result.hpp"

#include <string>
#include <string_view>

namespace cooper::source {

struct GitUrl {
    std::string scheme;    // http, https, ssh, git, file; "scp" for user@host:path
    std::string userinfo;  // "git", "user:token"
    std::string host;      // with ":port" when given
    std::string path;
    std::string ref;     // after '#', before ':'
    std::string subdir;  // after "#ref:"

    // http(s)://, ssh://, git://, file:// and user@host:path, each with an optional #ref:subdir.
    // Anything else, and anything that begins with '-', is bad input.
    static Result<GitUrl> parse(std::string_view text);
    // What git is given: without the fragment.
    [[nodiscard]] std::string remote() const;
    // The same without a password (http) for messages, names and the kept origin.
    [[nodiscard]] std::string remote_without_credentials() const;
};

// A branch, tag, commit or refs/… name that git will not take for an option. Empty is fine.
[[nodiscard]] Result<> check_git_ref(std::string_view ref);
// 40 or 64 lower-case hex digits.
[[nodiscard]] bool is_commit_id(std::string_view ref);
// Relative, without ".." and empty parts; "" stays "".
[[nodiscard]] Result<std::string> clean_subdir(std::string_view subdir);

}  // namespace cooper::source
