// The flags of one instruction: "--name", "--name=value".
#pragma once

#include "base/result.hpp"

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace cooper::dockerfile {

enum class FlagKind : std::uint8_t { boolean, text, list };

class Flags {
public:
    // Unknown flags (with a suggestion), repeated ones and missing values are bad input.
    static Result<Flags> parse(const std::vector<std::string>& written, const std::map<std::string, FlagKind>& known);
    [[nodiscard]] std::string text(const std::string& name) const;
    [[nodiscard]] std::vector<std::string> list(const std::string& name) const;
    [[nodiscard]] std::optional<bool> boolean(const std::string& name) const;

private:
    std::map<std::string, std::vector<std::string>> values_;
};

}  // namespace cooper::dockerfile
