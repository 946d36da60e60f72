#include "why/compare.hpp"

#include "base/text.hpp"

#include <algorithm>
#include <map>

namespace cooper::why {

namespace {

struct Changed {
    std::string name;
    std::optional<std::string> before;
    std::optional<std::string> after;
};

// Values that are not the same, by name; those of now first.
std::vector<Changed> changed_values(const Ingredients& now, const Ingredients& then) {
    std::map<std::string, std::string> old;
    for (const auto& value : then.values) old[value.name] = value.value;
    std::vector<Changed> changed;
    for (const auto& value : now.values) {
        const auto was = old.find(value.name);
        if (was == old.end()) {
            changed.push_back({value.name, std::nullopt, value.value});
            continue;
        }
        if (was->second != value.value) changed.push_back({value.name, was->second, value.value});
        old.erase(was);
    }
    for (const auto& [name, value] : old) changed.push_back({name, value, std::nullopt});
    return changed;
}

const Variable* find(const std::vector<Variable>& variables, std::string_view name) {
    const auto found = std::find_if(variables.begin(), variables.end(), [&](const auto& v) { return v.name == name; });
    return found == variables.end() ? nullptr : &*found;
}

std::string meaning(const Variable* variable) {
    if (variable == nullptr) return {};
    return variable->is_given ? variable->given : variable->definition;
}

std::optional<Cause> cause_in_variables(const Ingredients& now, const Ingredients& then) {
    const auto cause = [&](const Variable& named) -> std::optional<Cause> {
        const Variable* after = find(now.variables, named.name);
        const Variable* before = find(then.variables, named.name);
        if (meaning(after) == meaning(before) && (after == nullptr) == (before == nullptr)) return std::nullopt;
        return Cause{.kind = named.is_argument ? CauseKind::argument : CauseKind::variable,
                     .what = named.name,
                     .before = meaning(before),
                     .after = meaning(after)};
    };
    for (const auto& variable : now.variables) {
        if (auto found = cause(variable)) return found;
    }
    for (const auto& variable : then.variables) {
        if (auto found = cause(variable)) return found;
    }
    return std::nullopt;
}

bool is_same(const InputPart& now, const InputPart& then) {
    if (!now.content.empty() && !then.content.empty()) return now.content == then.content;
    // A result that is known to one side only tells nothing.
    const bool same_state = now.state == then.state || now.state.empty() || then.state.empty();
    return same_state && now.digest == then.digest;
}

std::string shown(const std::string& path) { return path.size() > 1 && path.starts_with('/') ? path.substr(1) : path; }

}  // namespace

int likeness(const Ingredients& now, const Ingredients& then, const std::set<std::string>& elsewhere) {
    if (now.kind != then.kind) return 0;
    const Place here = place_of(now.name);
    const Place there = place_of(then.name);
    const bool same_project = now.project == then.project;
    const bool same_text = now.text == then.text;
    const bool same_place = same_project && here.stage == there.stage && here.number == there.number;
    if (!same_text && (!same_place || elsewhere.contains(then.text))) return 0;
    int points = 1;
    if (same_text) points += 64;
    if (same_project) points += 32;
    if (here.stage == there.stage) points += 8;
    if (here.number == there.number) points += 4;
    if (here.platform == there.platform) points += 16;
    const auto changed = changed_values(now, then).size();
    points += static_cast<int>(10 - std::min<std::size_t>(changed, 10));
    std::size_t same = 0;
    const std::size_t inputs = std::min(now.inputs.size(), then.inputs.size());
    for (std::size_t i = 0; i < inputs; ++i) {
        if (is_same(now.inputs[i], then.inputs[i])) ++same;
    }
    points += static_cast<int>(std::min<std::size_t>(same, 10)) * 10;
    // The same words in another project: only when what they are about is the same, too.
    if (!same_project) {
        const auto follows_same = [&](std::size_t i) {
            return is_same(now.inputs[i], then.inputs[i]) ||
                   (!now.inputs[i].is_local && !now.inputs[i].step.empty() &&
                    place_of(now.inputs[i].step).text == place_of(then.inputs[i].step).text);
        };
        std::size_t alike = 0;
        for (std::size_t i = 0; i < inputs; ++i) {
            if (follows_same(i)) ++alike;
        }
        if (inputs > 0 && alike == 0) return 0;
    }
    return points;
}

std::optional<Cause> cause_in_text(const Ingredients& now, const Ingredients& then) {
    const auto changed = changed_values(now, then);
    for (const auto& one : changed) {
        if (one.name != "platform") continue;
        return Cause{.kind = CauseKind::platform, .before = one.before.value_or(""), .after = one.after.value_or("")};
    }
    if (now.text != then.text) return Cause{.kind = CauseKind::instruction, .before = then.text, .after = now.text};
    if (changed.empty()) return std::nullopt;
    // A variable of the Dockerfile that has another value, when something of the operation has, too.
    return cause_in_variables(now, then);
}

std::optional<std::size_t> differing_input(const Ingredients& now, const Ingredients& then) {
    const std::size_t both = std::min(now.inputs.size(), then.inputs.size());
    for (std::size_t i = 0; i < both; ++i) {
        if (!is_same(now.inputs[i], then.inputs[i])) return i;
    }
    return std::nullopt;
}

std::optional<Cause> cause_in_image(const InputPart& now, const InputPart& then) {
    if (now.image.empty() || then.image.empty()) return std::nullopt;
    if (now.image != then.image) {
        return Cause{.kind = CauseKind::base_image, .what = now.image, .before = then.image, .after = now.image};
    }
    if (now.digest == then.digest) return std::nullopt;
    return Cause{.kind = CauseKind::base_image, .what = now.image, .before = then.digest, .after = now.digest};
}

std::optional<Cause> cause_in_values(const Ingredients& now, const Ingredients& then) {
    for (auto& one : changed_values(now, then)) {
        Cause cause{.kind = CauseKind::setting,
                    .what = one.name,
                    .before = one.before.value_or(""),
                    .after = one.after.value_or("")};
        if (now.kind == "image" && (one.name == "digest" || one.name == "image")) {
            cause.kind = CauseKind::base_image;
            cause.what = place_of(now.name).text;
            for (const auto& value : now.values) {
                if (value.name == "image") cause.what = value.value;
            }
        } else if (one.name.starts_with("env ")) {
            cause.kind = CauseKind::variable;
            cause.what = one.name.substr(4);
        } else if (one.name.starts_with("mount ") || one.name.starts_with("secret ")) {
            cause.kind = CauseKind::mount;
            if (one.name.starts_with("mount ")) cause.what = one.name.substr(6);
        } else if (one.name == "command") {
            // The words of the instruction are the same: what runs them is another one.
            cause.what = "SHELL";
            cause.before.clear();
            cause.after.clear();
        } else if (one.name == "user") {
            cause.what = "USER";
        }
        return cause;
    }
    return std::nullopt;
}

std::optional<Cause> cause_in_hidden(const Ingredients& now, const Ingredients& then) {
    std::vector<std::string> names;
    for (const auto& variable : now.variables) {
        const Variable* before = find(then.variables, variable.name);
        if (before != nullptr && is_withheld(meaning(&variable)) && is_withheld(meaning(before)))
            names.push_back((variable.is_argument ? "ARG " : "ENV ") + variable.name);
    }
    // What an operation was given follows from these.
    if (names.empty()) {
        for (const auto& value : now.values) {
            if (!is_withheld(value.value)) continue;
            const bool before = std::ranges::any_of(then.values, [&](const auto& one) { return one == value; });
            if (before) names.push_back(value.name.starts_with("env ") ? "ENV " + value.name.substr(4) : value.name);
        }
    }
    if (names.empty() && is_withheld(now.text)) names.emplace_back("a hidden word of the instruction");
    if (names.empty()) return std::nullopt;
    return Cause{.kind = CauseKind::hidden, .what = names.front(), .others = names.size() - 1};
}

std::optional<Cause> cause_in_files(const std::vector<FileEntry>& now, const std::vector<FileEntry>& then) {
    auto changed = changes(then, now);
    if (changed.empty()) return std::nullopt;
    FileChange& first = changed.front();
    return Cause{.kind = CauseKind::file,
                 .what = shown(first.path),
                 .change = std::move(first.change),
                 .before = std::move(first.before),
                 .after = std::move(first.after),
                 .others = changed.size() - 1};
}

}  // namespace cooper::why
