// Texts of image history and step names as Go's fmt prints them. Pure.
#pragma once

#include "oci/image_config.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::dockerfile {

[[nodiscard]] std::string go_quote(std::string_view text);                       // %q of a string
[[nodiscard]] std::string go_quoted_list(const std::vector<std::string>& list);  // %q of a slice: ["a" "b"]
[[nodiscard]] std::string go_plain_list(const std::vector<std::string>& list);   // %v of a slice: [a b]
[[nodiscard]] std::string go_duration(std::int64_t nanoseconds);                 // "1m30s"
[[nodiscard]] std::string go_healthcheck(const oci::Healthcheck& health);        // %q of a pointer to it

// "run x" -> "RUN x": only the first word.
[[nodiscard]] std::string uppercase_command(std::string_view text);
// First line of a here-document, with "..." when there is more.
[[nodiscard]] std::string summarize_heredoc(std::string_view body);

}  // namespace cooper::dockerfile
