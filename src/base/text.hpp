// Small operations on text that several rooms need.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cooper {

[[nodiscard]] std::vector<std::string> split(std::string_view text, char separator);
// At the first separator only; second is nullopt when there is none.
[[nodiscard]] std::pair<std::string_view, std::optional<std::string_view>> cut(std::string_view text, char separator);
[[nodiscard]] std::string_view trim(std::string_view text);  // spaces, tabs, CR, LF, VT, FF
[[nodiscard]] std::string join(const std::vector<std::string>& parts, std::string_view separator);
[[nodiscard]] std::string to_lower(std::string_view text);  // ASCII only
[[nodiscard]] std::string to_upper(std::string_view text);  // ASCII only
[[nodiscard]] bool equal_ignoring_case(std::string_view a, std::string_view b);

[[nodiscard]] std::string to_hex(std::span<const std::uint8_t> bytes);
// Lower-case hex only; false when the text is no such hex or of another length.
[[nodiscard]] bool from_hex(std::string_view text, std::span<std::uint8_t> out);

// A decimal number and nothing else.
[[nodiscard]] std::optional<std::int64_t> parse_int(std::string_view text);
[[nodiscard]] std::optional<std::uint64_t> parse_octal(std::string_view text);

// For messages: in double quotes, control bytes escaped, cut after 200 bytes.
[[nodiscard]] std::string quoted(std::string_view text);
// Exact matches, so that std::quoted (found through the argument) is never meant.
[[nodiscard]] inline std::string quoted(const std::string& text) { return quoted(std::string_view(text)); }
[[nodiscard]] inline std::string quoted(std::string& text) { return quoted(std::string_view(text)); }
[[nodiscard]] inline std::string quoted(const char* text) { return quoted(std::string_view(text)); }

// The candidate nearest to word (Levenshtein distance < 3, as BuildKit's suggestions), if any.
[[nodiscard]] std::optional<std::string> nearest(std::string_view word, const std::vector<std::string>& candidates);

// "1.2MB", "512kB", "17B": decimal units with at most one decimal, as docker prints sizes.
[[nodiscard]] std::string human_size(std::uint64_t size_bytes);

}  // namespace cooper
