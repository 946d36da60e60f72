#include "dockerfile/flags.hpp"

#include "base/text.hpp"

namespace cooper::dockerfile {

Result<Flags> Flags::parse(const std::vector<std::string>& written, const std::map<std::string, FlagKind>& known) {
    Flags flags;
    for (const auto& flag : written) {
        const auto [name_view, value] = cut(std::string_view(flag).substr(2), '=');
        const std::string name(name_view);
        const auto kind = known.find(name);
        if (kind == known.end()) {
            std::vector<std::string> names;
            for (const auto& [one, _] : known) names.push_back("--" + one);
            const auto near = nearest("--" + name, names);
            return bad_input("unknown flag: --{}{}", name, near ? " (did you mean " + *near + "?)" : "");
        }
        auto& values = flags.values_[name];
        if (!values.empty() && kind->second != FlagKind::list) return bad_input("duplicate flag specified: --{}", name);
        if (kind->second == FlagKind::boolean) {
            if (value && value->empty()) return bad_input("missing a value on flag: --{}", name);
            const std::string lower = to_lower(value.value_or("true"));
            if (lower != "true" && lower != "false") {
                return bad_input("expecting boolean value for flag --{}, not: {}", name, value.value_or(""));
            }
            values.push_back(lower);
        } else {
            if (!value) return bad_input("missing a value on flag: --{}", name);
            values.emplace_back(*value);
        }
    }
    return flags;
}

std::string Flags::text(const std::string& name) const {
    const auto found = values_.find(name);
    return found == values_.end() || found->second.empty() ? std::string() : found->second.front();
}

std::vector<std::string> Flags::list(const std::string& name) const {
    const auto found = values_.find(name);
    return found == values_.end() ? std::vector<std::string>{} : found->second;
}

std::optional<bool> Flags::boolean(const std::string& name) const {
    const auto found = values_.find(name);
    if (found == values_.end()) return std::nullopt;
    return found->second.front() == "true";
}

}  // namespace cooper::dockerfile
