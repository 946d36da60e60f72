#include "dockerfile/go_duration.hpp"

#include "base/text.hpp"

#include <array>
#include <utility>

namespace cooper::dockerfile {

Result<std::int64_t> parse_go_duration(std::string_view text) {
    static constexpr std::array<std::pair<std::string_view, double>, 8> kUnits = {
        {{"ns", 1}, {"us", 1e3}, {"µs", 1e3}, {"μs", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}}};
    const Error wrong =
        bad_input("invalid duration {}", quoted(text)).with_hint("write a number with a unit: 30s, 1m30s, 500ms");
    std::string_view rest = text;
    bool negative = false;
    if (rest.starts_with('-') || rest.starts_with('+')) {
        negative = rest.starts_with('-');
        rest.remove_prefix(1);
    }
    if (rest == "0") return std::int64_t{0};
    if (rest.empty()) return wrong;
    double total = 0;
    while (!rest.empty()) {
        const std::size_t digits = rest.find_first_not_of("0123456789.");
        if (digits == 0 || digits == std::string_view::npos) return wrong;
        const std::string number(rest.substr(0, digits));
        if (number == "." || number.find('.') != number.rfind('.') || number.size() > 18) return wrong;
        rest.remove_prefix(digits);
        std::string_view unit = rest.substr(0, rest.find_first_of("0123456789."));
        double factor = 0;
        for (const auto& [name, value] : kUnits) {
            if (unit == name) factor = value;
        }
        if (factor == 0) return wrong;
        rest.remove_prefix(unit.size());
        total += std::stod(number) * factor;
        if (total > 9.2e18) return wrong;
    }
    return static_cast<std::int64_t>(negative ? -total : total);
}

}  // namespace cooper::dockerfile
