// How buildctl prints values.
#pragma once

#include "base/clock.hpp"
#include "base/result.hpp"
#include "client/control.hpp"

#include <cstdint>
#include <string>
#include <string_view>

namespace cooper::buildctl {

// "0B", "4.10kB", "1.53GB".
[[nodiscard]] std::string bytes_text(std::int64_t bytes);
// As few digits as needed: "2GB".
[[nodiscard]] std::string short_bytes_text(std::int64_t bytes);
// "2026-11-21 10:00:00.5 +0000 UTC"
[[nodiscard]] std::string time_text(Timestamp time);
// "100", "100MB", "1.5GiB"
[[nodiscard]] Result<std::int64_t> parse_size(std::string_view text);
// Of --format only what people use: JSON, or nothing.
[[nodiscard]] Result<bool> wants_json(std::string_view format);

constexpr std::string_view kHistoryHeader = "TYPE\tREF\tCREATED\tCOMPLETED\tGENERATION\tPINNED\n";
[[nodiscard]] std::string history_row(const client::HistoryRecord& record);

}  // namespace cooper::buildctl
