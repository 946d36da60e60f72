// Filter: which records are meant, in containerd's language, as BuildKit's clients send it.
//
//     type==regular,description~=^pulled        all selectors must hold
//     labels."a.b"!=x   id                      quoted names; a name alone: the field is there
//     duration>=1h      startedAt<2026-01-02    order, where the caller says how fields compare
#pragma once

#include "base/result.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::daemon {

class Filter {
public:
    using Path = std::vector<std::string>;
    enum class Operator : std::uint8_t { present, equal, unequal, matches, less, at_most, greater, at_least };
    struct Fields {
        std::function<std::optional<std::string>(const Path&)> find;
        // For the four operators of order, whether the field stands so to the value. Empty: they are refused.
        std::function<Result<bool>(const Path&, Operator, const std::string& value)> compare;
    };

    // Bad input names the place. Expressions are RE2's, so that none takes long.
    [[nodiscard]] static Result<Filter> parse(std::string_view text);
    [[nodiscard]] Result<bool> matches(const Fields& fields) const;

private:
    struct Selector {
        Path path;
        Operator op = Operator::present;
        std::string value;
        std::shared_ptr<const void> expression;  // RE2
    };
    std::vector<Selector> selectors_;
};

[[nodiscard]] Result<std::vector<Filter>> parse_filters(const std::vector<std::string>& texts);
// Whether one of them matches; without any, everything does.
[[nodiscard]] Result<bool> any_matches(const std::vector<Filter>& filters, const Filter::Fields& fields);

}  // namespace cooper::daemon
