#include "sourcepolicy/lock.hpp"

#include "base/text.hpp"
#include "oci/json_text.hpp"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>

namespace cooper::sourcepolicy {

namespace {

using Json = nlohmann::json;

constexpr std::size_t kMaxLock = 4U << 20U;
constexpr std::string_view kImage = "docker-image://";
constexpr std::string_view kGit = "git://";

bool is_http(std::string_view identifier) {
    return identifier.starts_with("http://") || identifier.starts_with("https://");
}

bool is_commit(std::string_view text) {
    return (text.size() == 40 || text.size() == 64) &&
           text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

Rule rule(Action action, std::string identifier, Match match) {
    return {.action = action, .identifier = std::move(identifier), .match = match, .attributes = {}, .update = {}};
}

// Only this very source. A name may hold "*".
Rule exactly(Action action, const std::string& identifier) { return rule(action, identifier, Match::exact); }

}  // namespace

bool is_floating(const llb::SourceOp& source) {
    const std::string_view identifier = source.identifier;
    const auto has = [&](const char* key) {
        const auto found = source.attrs.find(key);
        return found != source.attrs.end() && !found->second.empty();
    };
    if (identifier.starts_with(kImage)) return identifier.find('@') == std::string_view::npos;
    if (is_http(identifier)) return !has("http.checksum");
    if (!identifier.starts_with(kGit)) return false;
    const std::size_t fragment = identifier.find('#');
    if (fragment == std::string_view::npos) return !has("git.checksum");
    return !is_commit(cut(identifier.substr(fragment + 1), ':').first) && !has("git.checksum");
}

Result<Lock> parse_lock(std::string_view text) {
    TRY(oci::check_json_bounds(text, kMaxLock, kLockFile));
    const Json json = Json::parse(text, nullptr, false);
    if (!json.is_object()) return bad_input("{} is not JSON", kLockFile).with_hint("write it again with cooper lock");
    if (json.value("version", Json()) != Json(1)) {
        return bad_input("{} has version {}, only 1 is known", kLockFile, json.value("version", Json()).dump())
            .with_hint("write it again with cooper lock");
    }
    Lock lock;
    const auto sources = json.find("sources");
    if (sources == json.end() || !sources->is_object()) return bad_input("{} has no sources", kLockFile);
    for (const auto& [identifier, value] : sources->items()) {
        const std::string pin = value.is_string() ? value.get<std::string>() : std::string();
        const bool good = identifier.starts_with(kGit) ? is_commit(pin) : Digest::parse(pin).has_value();
        if (!good || !is_floating({identifier, {}})) {
            return bad_input("{}: {} is locked to {}", kLockFile, quoted(identifier), quoted(pin))
                .with_hint("write it again with cooper lock");
        }
        lock.sources.emplace(identifier, pin);
    }
    return lock;
}

std::string print_lock(const Lock& lock) {
    std::string text = "{\n  \"version\": 1,\n  \"sources\": {";
    for (const auto& [identifier, pin] : lock.sources) {
        text += text.ends_with('{') ? "\n" : ",\n";
        text += fmt::format("    {}: {}", Json(identifier).dump(), Json(pin).dump());
    }
    return text + (lock.sources.empty() ? "}\n}\n" : "\n  }\n}\n");
}

namespace {

Rule pinning(const std::string& identifier, const std::string& pin) {
    Rule locked = exactly(Action::convert, identifier);
    if (identifier.starts_with(kImage)) {
        locked.update = Rule::Update{identifier + "@" + pin, {}};
    } else if (identifier.starts_with(kGit)) {
        // The commit itself is fetched, wherever the branch is by now.
        locked.update = Rule::Update{"", {{"git.checksum", pin}, {"git.fetchbycommit", "true"}}};
    } else {
        locked.update = Rule::Update{"", {{"http.checksum", pin}}};
    }
    return locked;
}

// Denials alone, so that rules before them cannot be overruled by what these let pass. BuildKit takes two rules with
// one expression for the same, attributes included: no two of these are alike, nor like what people write.
std::vector<Rule> denials_of_what_floats() {
    std::vector<Rule> rules;
    rules.push_back(rule(Action::deny, "^docker-image://(?:[^@]*)$", Match::regex));
    Rule download = rule(Action::deny, "^(?:https?)://", Match::regex);
    download.attributes.push_back({"http.checksum", "^$", AttributeMatch::matches});
    rules.push_back(std::move(download));
    // A ref that is no commit: too short, of no length between, too long, or with another character.
    for (const char* ref : {"^git://[^#]*$", "^git://[^#]*#[^:]{0,39}(?::.*)?$", "^git://[^#]*#[^:]{41,63}(?::.*)?$",
                            "^git://[^#]*#[^:]{65,}(?::.*)?$", "^git://[^#]*#[^:]*[^:0-9a-f][^:]*(?::.*)?$"}) {
        Rule git = rule(Action::deny, ref, Match::regex);
        git.attributes.push_back({"git.checksum", "^[0-9a-f]{0,39}(?:[^0-9a-f]|$)", AttributeMatch::matches});
        rules.push_back(std::move(git));
    }
    return rules;
}

// Whether the rule is about this source, its attributes aside.
Result<bool> names(const Rule& rule, const std::string& identifier) {
    Rule plain = rule;
    plain.action = Action::deny;
    plain.attributes.clear();
    plain.update.reset();
    llb::SourceOp source{identifier, {}};
    const auto policies = TRY(Policies::create({Policy{.rules = {std::move(plain)}}}));
    return !policies.apply(source).has_value();
}

}  // namespace

Policy policy_of(const Lock& lock, Frozen frozen) {
    Policy policy;
    for (const auto& [identifier, pin] : lock.sources) policy.rules.push_back(pinning(identifier, pin));
    if (frozen == Frozen::yes) std::ranges::copy(denials_of_what_floats(), std::back_inserter(policy.rules));
    return policy;
}

Result<Policy> joined(const Policy& own, const Lock& lock, Frozen frozen) {
    const Policies alone = TRY(Policies::create({own}));
    Policy policy{.version = own.version, .rules = {}};
    for (const auto& [identifier, pin] : lock.sources) {
        for (const auto& rule : own.rules) {
            if (rule.attributes.empty() || !TRY(names(rule, identifier))) continue;
            return bad_input("the rule of the source policy for {} looks at attributes of {}, which is locked",
                             quoted(rule.identifier), quoted(identifier))
                .with_hint("a daemon takes one policy: build without --builder, or put the pin into the policy");
        }
        // What the policy changes or denies it does before the lock is asked.
        llb::SourceOp source{identifier, {}};
        const auto changed = alone.apply(source);
        if (changed && !*changed) policy.rules.push_back(pinning(identifier, pin));
    }
    std::ranges::copy(own.rules, std::back_inserter(policy.rules));
    if (frozen == Frozen::yes) std::ranges::copy(denials_of_what_floats(), std::back_inserter(policy.rules));
    return policy;
}

std::string to_json(const Policy& policy) {
    static constexpr const char* kActions[] = {"ALLOW", "DENY", "CONVERT"};
    static constexpr const char* kMatches[] = {"WILDCARD", "EXACT", "REGEX"};
    static constexpr const char* kConditions[] = {"EQUAL", "NOTEQUAL", "MATCHES"};
    Json rules = Json::array();
    for (const auto& one : policy.rules) {
        Json selector{{"identifier", one.identifier}, {"matchType", kMatches[static_cast<int>(one.match)]}};
        for (const auto& attribute : one.attributes) {
            selector["constraints"].push_back({{"key", attribute.key},
                                               {"value", attribute.value},
                                               {"condition", kConditions[static_cast<int>(attribute.condition)]}});
        }
        Json out{{"action", kActions[static_cast<int>(one.action)]}, {"selector", std::move(selector)}};
        if (one.update) {
            Json updates = Json::object();
            if (!one.update->identifier.empty()) updates["identifier"] = one.update->identifier;
            if (!one.update->attrs.empty()) updates["attrs"] = one.update->attrs;
            out["updates"] = std::move(updates);
        }
        rules.push_back(std::move(out));
    }
    return Json{{"version", policy.version}, {"rules", std::move(rules)}}.dump(-1, ' ', false,
                                                                               Json::error_handler_t::replace);
}

}  // namespace cooper::sourcepolicy
