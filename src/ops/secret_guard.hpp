// SecretGuard: looks for the values of a build's secrets in what its steps leave behind: the content of files, their
// names, the targets of links, the configuration of images. Exact values only, less white space at their end; values
// of fewer than kShortest bytes would be found everywhere and are not looked for.
// Any thread. Errors: failed_precondition, naming the secret and the file, never the value.
#pragma once

#include "base/guarded.hpp"
#include "base/progress.hpp"
#include "base/result.hpp"
#include "base/stop.hpp"
#include "session/session.hpp"
#include "sys/rooted_dir.hpp"

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>

namespace cooper::ops {

enum class OnLeak : std::uint8_t { fail, warn, allow };

class SecretGuard {
public:
    static constexpr std::size_t kShortest = 8;

    explicit SecretGuard(OnLeak on_leak) : on_leak_(on_leak) {}
    // A step, or the build, was given it.
    void add(const std::string& id, const session::Secret& secret);
    // That this secret is left behind is wanted. Before the first add().
    void allow(const std::string& id) { allowed_.insert(id); }

    // The new layer of a step; with OnLeak::warn what is found is a line of the step's log.
    Result<> check(const sys::RootedDir& layer, VertexProgress& progress, const Stop& stop) const;
    // `what` names the text, as "the image's configuration".
    Result<> check(std::string_view text, std::string_view what, VertexProgress& progress) const;

    // The text with each value replaced by "xxxxx".
    [[nodiscard]] std::string without_secrets(std::string text) const;

private:
    using Values = std::map<std::string, session::Secret>;  // by id
    struct Scan;
    Result<> found(const std::string& id, const std::string& where, VertexProgress& progress) const;

    OnLeak on_leak_;
    std::set<std::string> allowed_;
    mutable Guarded<Values> values_;
};

}  // namespace cooper::ops
