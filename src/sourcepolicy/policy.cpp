#include "sourcepolicy/policy.hpp"

#include "base/text.hpp"
#include "llb/marshal.hpp"
#include "oci/json_text.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <re2/re2.h>
#include <unordered_map>

namespace cooper::sourcepolicy {

namespace {

using Json = nlohmann::json;

constexpr std::size_t kMaxPolicyBytes = 1U << 20U;
constexpr std::size_t kMaxRules = 10'000;
constexpr std::size_t kMaxIdentifier = 64U << 10U;  // no conversion makes a longer one
constexpr std::int64_t kMemoryOfExpression = 8U << 20U;

// --- JSON ---

Result<> only_fields(const Json& object, const char* what, std::initializer_list<std::string_view> known) {
    if (!object.is_object()) return bad_input("source policy: {} is no object", what);
    for (const auto& [key, value] : object.items()) {
        if (std::ranges::find(known, key) == known.end())
            return bad_input("source policy: unknown field {} in {}", quoted(key), what);
    }
    return {};
}

Result<std::string> text_of(const Json& object, const char* key) {
    const auto found = object.find(key);
    if (found == object.end() || found->is_null()) return std::string();
    if (!found->is_string()) return bad_input("source policy: {} is no text", key);
    return found->get<std::string>();
}

// By name or by number, as protobuf's JSON has it.
template <typename Enum, std::size_t N>
Result<Enum> choice_of(const Json& object, const char* key, const std::array<std::string_view, N>& names) {
    const auto found = object.find(key);
    if (found == object.end() || found->is_null()) return Enum{};
    if (found->is_number_unsigned() && found->get<std::uint64_t>() < N)
        return static_cast<Enum>(found->get<std::uint64_t>());
    if (found->is_string()) {
        const auto name = std::ranges::find(names, found->get<std::string>());
        if (name != names.end()) return static_cast<Enum>(name - names.begin());
    }
    return bad_input("source policy: {} is {}, not one of {}", key, found->dump(),
                     join(std::vector<std::string>(names.begin(), names.end()), ", "));
}

constexpr std::array<std::string_view, 3> kActions = {"ALLOW", "DENY", "CONVERT"};
constexpr std::array<std::string_view, 3> kMatches = {"WILDCARD", "EXACT", "REGEX"};
constexpr std::array<std::string_view, 3> kConditions = {"EQUAL", "NOTEQUAL", "MATCHES"};

Result<Rule> rule_of(const Json& json) {
    TRY(only_fields(json, "a rule", {"action", "selector", "updates"}));
    Rule rule;
    rule.action = TRY(choice_of<Action>(json, "action", kActions));
    const auto selector = json.find("selector");
    if (selector == json.end()) return bad_input("source policy: a rule has no selector");
    TRY(only_fields(*selector, "a selector", {"identifier", "matchType", "match_type", "constraints"}));
    rule.identifier = TRY(text_of(*selector, "identifier"));
    rule.match =
        TRY(choice_of<Match>(*selector, selector->contains("match_type") ? "match_type" : "matchType", kMatches));
    if (const auto constraints = selector->find("constraints"); constraints != selector->end()) {
        if (!constraints->is_array()) return bad_input("source policy: constraints are no list");
        for (const auto& one : *constraints) {
            TRY(only_fields(one, "a constraint", {"key", "value", "condition"}));
            rule.attributes.push_back({TRY(text_of(one, "key")), TRY(text_of(one, "value")),
                                       TRY(choice_of<AttributeMatch>(one, "condition", kConditions))});
        }
    }
    const auto updates = json.find("updates");
    if (updates == json.end() || updates->is_null()) return rule;
    TRY(only_fields(*updates, "updates", {"identifier", "attrs"}));
    Rule::Update update;
    update.identifier = TRY(text_of(*updates, "identifier"));
    if (const auto attrs = updates->find("attrs"); attrs != updates->end() && !attrs->is_null()) {
        if (!attrs->is_object()) return bad_input("source policy: attrs are no object");
        for (const auto& [key, value] : attrs->items()) {
            if (!value.is_string()) return bad_input("source policy: attribute {} is no text", quoted(key));
            update.attrs[key] = value.get<std::string>();
        }
    }
    rule.update = std::move(update);
    return rule;
}

// --- matching ---

Result<std::shared_ptr<const RE2>> compile(const std::string& expression) {
    RE2::Options options(RE2::Quiet);
    options.set_max_mem(kMemoryOfExpression);
    auto compiled = std::make_shared<const RE2>(expression, options);
    if (!compiled->ok())
        return bad_input("source policy: invalid expression {}: {}", quoted(expression), compiled->error());
    return compiled;
}

// "*" as a group of its own.
std::string expression_of_wildcard(const std::string& pattern) {
    std::string out = "^";
    std::size_t from = 0;
    for (std::size_t star = pattern.find('*'); star != std::string::npos; star = pattern.find('*', from)) {
        out += RE2::QuoteMeta(std::string_view(pattern).substr(from, star - from));
        out += "(.*)";
        from = star + 1;
    }
    return out + RE2::QuoteMeta(std::string_view(pattern).substr(from)) + "$";
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Go's templates: $1, ${1}, ${name}, $$.
std::string expand(std::string_view text, const RE2& expression, const std::vector<re2::StringPiece>& groups) {
    const auto is_word = [](char c) {
        return c == '_' || is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    };
    std::string out;
    for (std::size_t at = 0; at < text.size();) {
        if (text[at] != '$' || at + 1 == text.size()) {
            out += text[at++];
            continue;
        }
        if (text[at + 1] == '$') {
            out += '$';
            at += 2;
            continue;
        }
        const bool braced = text[at + 1] == '{';
        std::size_t end = at + (braced ? 2 : 1);
        const std::size_t start = end;
        while (end < text.size() && is_word(text[end])) ++end;
        if (end == start || (braced && (end == text.size() || text[end] != '}'))) {
            out += text[at++];
            continue;
        }
        const std::string name(text.substr(start, end - start));
        std::optional<std::size_t> group;
        if (std::ranges::all_of(name, is_digit)) {
            if (name.size() < 6) group = std::stoul(name);
        } else if (const auto named = expression.NamedCapturingGroups().find(name);
                   named != expression.NamedCapturingGroups().end()) {
            group = static_cast<std::size_t>(named->second);
        }
        if (group && *group < groups.size() && groups[*group].data() != nullptr)
            out.append(groups[*group].data(), groups[*group].size());
        at = end + (braced ? 1 : 0);
    }
    return out;
}

std::vector<re2::StringPiece> groups_for(const RE2& expression) {
    return std::vector<re2::StringPiece>(static_cast<std::size_t>(expression.NumberOfCapturingGroups()) + 1);
}

bool find(const RE2& expression, std::string_view text, std::size_t from, std::vector<re2::StringPiece>& groups) {
    return expression.Match(re2::StringPiece(text.data(), text.size()), from, text.size(), RE2::UNANCHORED,
                            groups.data(), static_cast<int>(groups.size()));
}

// Every match in `text` becomes what the template makes of it.
std::string replace_all(const RE2& expression, std::string_view text, std::string_view format) {
    std::string out;
    std::size_t at = 0;
    auto groups = groups_for(expression);
    while (at <= text.size() && out.size() <= kMaxIdentifier && find(expression, text, at, groups)) {
        const auto start = static_cast<std::size_t>(groups[0].data() - text.data());
        out += text.substr(at, start - at);
        out += expand(format, expression, groups);
        at = start + groups[0].size();
        if (!groups[0].empty()) continue;
        if (at < text.size()) out += text[at];
        ++at;
    }
    if (at < text.size()) out += text.substr(at);
    return out;
}

}  // namespace

struct Policies::Compiled {
    struct Attribute {
        AttributeRule rule;
        std::shared_ptr<const RE2> expression;  // matches
    };
    struct CompiledRule {
        Rule rule;
        std::shared_ptr<const RE2> expression;  // wildcard, regex
        std::vector<Attribute> attributes;

        [[nodiscard]] bool matches(const llb::SourceOp& source) const {
            for (const auto& attribute : attributes) {
                const auto found = source.attrs.find(attribute.rule.key);
                const std::string value = found == source.attrs.end() ? std::string() : found->second;
                if (attribute.rule.condition == AttributeMatch::equal && value != attribute.rule.value) return false;
                if (attribute.rule.condition == AttributeMatch::not_equal && value == attribute.rule.value)
                    return false;
                if (attribute.expression && !RE2::PartialMatch(value, *attribute.expression)) return false;
            }
            if (rule.identifier == source.identifier) return true;
            return expression && RE2::PartialMatch(source.identifier, *expression);
        }

        [[nodiscard]] Result<bool> convert(llb::SourceOp& source) const {
            std::string identifier = source.identifier;
            if (!rule.update->identifier.empty()) {
                identifier = rule.update->identifier;
                if (rule.match == Match::regex) {
                    identifier = replace_all(*expression, source.identifier, identifier);
                } else if (rule.match == Match::wildcard) {
                    auto groups = groups_for(*expression);
                    if (find(*expression, source.identifier, 0, groups))
                        identifier = expand(identifier, *expression, groups);
                }
            }
            if (identifier.size() > kMaxIdentifier)
                return bad_input("source policy: a source becomes longer than {} bytes", kMaxIdentifier);
            bool changed = identifier != source.identifier;
            source.identifier = std::move(identifier);
            for (const auto& [key, value] : rule.update->attrs) {
                const auto [at, is_new] = source.attrs.try_emplace(key);
                if (at->second != value) changed = true;
                at->second = value;
            }
            return changed;
        }
    };
    std::vector<std::vector<CompiledRule>> policies;

    // Of the first policy that changes it.
    [[nodiscard]] Result<bool> once(llb::SourceOp& source) const {
        for (const auto& rules : policies) {
            bool denied = false;
            for (const auto& rule : rules) {
                if (!rule.matches(source)) continue;
                if (rule.rule.action != Action::convert) {
                    denied = rule.rule.action == Action::deny;
                } else if (TRY(rule.convert(source))) {
                    return true;  // one that changes nothing decides nothing either
                }
            }
            if (denied)
                return fail(Code::permission_denied, Blame::user, "source {} denied by policy",
                            quoted(source.identifier));
        }
        return false;
    }
};

Result<Policies> Policies::create(const std::vector<Policy>& policies) {
    auto compiled = std::make_shared<Compiled>();
    std::size_t rules = 0;
    for (const auto& policy : policies) {
        if (policy.version > 1) return bad_input("source policy: version {} is not known, only 1", policy.version);
        rules += policy.rules.size();
        if (rules > kMaxRules) return bad_input("source policy: more than {} rules", kMaxRules);
        auto& target = compiled->policies.emplace_back();
        for (const auto& rule : policy.rules) {
            Compiled::CompiledRule made{.rule = rule, .expression = nullptr, .attributes = {}};
            if (rule.identifier.empty()) return bad_input("source policy: a selector has no identifier");
            if (rule.action == Action::convert && !rule.update)
                return bad_input("source policy: CONVERT of {} has no updates", quoted(rule.identifier));
            if (rule.match == Match::regex) made.expression = TRY(compile(rule.identifier));
            if (rule.match == Match::wildcard) made.expression = TRY(compile(expression_of_wildcard(rule.identifier)));
            for (const auto& attribute : rule.attributes) {
                made.attributes.push_back({attribute, nullptr});
                if (attribute.condition == AttributeMatch::matches)
                    made.attributes.back().expression = TRY(compile(attribute.value));
            }
            target.push_back(std::move(made));
        }
    }
    Policies out;
    if (rules > 0) out.compiled_ = std::move(compiled);
    return out;
}

Result<bool> Policies::apply(llb::SourceOp& source) const {
    if (!compiled_) return false;
    bool changed = false;
    const std::string original = source.identifier;
    for (int conversions = 0; TRY(compiled_->once(source)); ++conversions) {
        changed = true;
        if (conversions == kMaxConversions) {
            return bad_input("source policy: {} is converted more than {} times", quoted(original), kMaxConversions)
                .with_hint("a CONVERT whose result matches again goes on for ever");
        }
    }
    return changed;
}

Result<Policy> parse_policy(std::string_view text) {
    TRY(oci::check_json_bounds(text, kMaxPolicyBytes, "source policy"));
    const Json json = Json::parse(text, nullptr, false);
    if (json.is_discarded()) return bad_input("source policy: not JSON");
    TRY(only_fields(json, "the policy", {"version", "rules"}));
    Policy policy;
    if (const auto version = json.find("version"); version != json.end()) {
        if (!version->is_number_integer()) return bad_input("source policy: version is no number");
        policy.version = version->get<std::int64_t>();
    }
    const auto rules = json.find("rules");
    if (rules == json.end() || rules->is_null()) return policy;
    if (!rules->is_array()) return bad_input("source policy: rules are no list");
    for (const auto& rule : *rules) policy.rules.push_back(TRY(rule_of(rule)));
    return policy;
}

Result<llb::Definition> change_sources(const llb::Definition& definition, const ChangeSource& change) {
    std::unordered_map<Digest, Digest> renamed;
    std::vector<llb::Op> parsed;
    parsed.reserve(definition.ops.size());
    for (const auto& bytes : definition.ops) parsed.push_back(TRY(llb::parse_op(bytes)));
    std::vector<bool> changed(parsed.size());
    for (std::size_t i = 0; i < parsed.size(); ++i) {
        if (auto* source = std::get_if<llb::SourceOp>(&parsed[i].body))
            changed[i] = TRY(change(*source, parsed[i].platform));
    }
    if (std::ranges::find(changed, true) == changed.end()) return definition;

    // Depth first: an operation is named when all its inputs are.
    std::unordered_map<Digest, std::size_t> places;
    for (std::size_t i = 0; i < parsed.size(); ++i) places.emplace(llb::op_digest(definition.ops[i]), i);
    std::vector<std::string> ops = definition.ops;
    std::vector<bool> done(parsed.size());
    for (std::size_t root = 0; root < parsed.size(); ++root) {
        std::vector<std::pair<std::size_t, std::size_t>> stack{{root, 0}};
        while (!stack.empty()) {
            auto& [at, next] = stack.back();
            if (done[at]) {
                stack.pop_back();
                continue;
            }
            if (next < parsed[at].inputs.size()) {
                const auto input = places.find(parsed[at].inputs[next++].digest);
                if (input != places.end() && !done[input->second]) stack.emplace_back(input->second, 0);
                if (stack.size() > parsed.size() + 1) return bad_input("invalid LLB with a loop");
                continue;
            }
            for (auto& input : parsed[at].inputs) {
                const auto other = renamed.find(input.digest);
                if (other == renamed.end()) continue;
                input.digest = other->second;
                changed[at] = true;
            }
            if (changed[at]) {
                const Digest before = llb::op_digest(definition.ops[at]);
                ops[at] = llb::marshal(parsed[at]);
                renamed.emplace(before, llb::op_digest(ops[at]));
            }
            done[at] = true;
            stack.pop_back();
        }
    }

    llb::Definition out;
    out.ops = std::move(ops);
    const auto name_of = [&](const std::string& name) {
        const auto digest = Digest::parse(name);
        if (!digest) return name;
        const auto other = renamed.find(*digest);
        return other == renamed.end() ? name : other->second.to_string();
    };
    for (const auto& [name, metadata] : definition.metadata) out.metadata.emplace(name_of(name), metadata);
    out.source = definition.source;
    if (out.source) {
        out.source->locations.clear();
        for (const auto& [name, locations] : definition.source->locations) {
            auto& target = out.source->locations[name_of(name)];
            target.insert(target.end(), locations.begin(), locations.end());
        }
    }
    return out;
}

}  // namespace cooper::sourcepolicy
