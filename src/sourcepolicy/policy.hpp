// Source policies: rules about which sources a build may use, and what is used instead (BuildKit's package
// moby.buildkit.v1.sourcepolicy). Rules look at the identifier of a source ("docker-image://docker.io/library/
// alpine:3", "https://…", "git://…") and at its attributes.
//
// Of the rules of one policy the last ALLOW or DENY that matches decides; a CONVERT that changes the source has all
// policies look again, at most kMaxConversions times. What no rule matches is allowed.
// Expressions are RE2's, so that no policy and no source can make a match slow. Any thread.
#pragma once

#include "base/result.hpp"
#include "llb/definition.hpp"
#include "llb/op.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::sourcepolicy {

inline constexpr int kMaxConversions = 20;

enum class Action : std::uint8_t { allow = 0, deny = 1, convert = 2 };
enum class Match : std::uint8_t { wildcard = 0, exact = 1, regex = 2 };
enum class AttributeMatch : std::uint8_t { equal = 0, not_equal = 1, matches = 2 };

struct AttributeRule {
    std::string key;
    std::string value;
    AttributeMatch condition = AttributeMatch::equal;
};

struct Rule {
    Action action = Action::allow;
    std::string identifier;  // "*" stands for anything when the match is wildcard
    Match match = Match::wildcard;
    std::vector<AttributeRule> attributes;  // all must hold
    // convert: what it becomes. ${1} is what the first "*" or group stood for; empty = as it is.
    struct Update {
        std::string identifier;
        std::map<std::string, std::string> attrs;
    };
    std::optional<Update> update;
};

struct Policy {
    std::int64_t version = 1;
    std::vector<Rule> rules;
};

// The JSON form that BuildKit's clients read from files. Unknown fields are refused: a rule with a typing error must
// not become another rule.
[[nodiscard]] Result<Policy> parse_policy(std::string_view json);

class Policies {
public:
    Policies() = default;
    // Expressions are compiled once; a broken one is bad input.
    [[nodiscard]] static Result<Policies> create(const std::vector<Policy>& policies);

    [[nodiscard]] bool empty() const { return compiled_ == nullptr; }
    // Whether the source was changed. permission_denied when it is denied.
    [[nodiscard]] Result<bool> apply(llb::SourceOp& source) const;

private:
    struct Compiled;
    std::shared_ptr<const Compiled> compiled_;  // null = no rules
};

// The definition with every source given to `change`, which says whether it changed it. What is above a changed source
// gets another digest; metadata and places in source files move with it.
using ChangeSource = std::function<Result<bool>(llb::SourceOp& source, const std::optional<llb::Platform>& platform)>;
[[nodiscard]] Result<llb::Definition> change_sources(const llb::Definition& definition, const ChangeSource& change);

}  // namespace cooper::sourcepolicy
