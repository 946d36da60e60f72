#include "buildctl/output.hpp"

#include "base/text.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <ctime>
#include <fmt/format.h>
#include <map>

namespace cooper::buildctl {

namespace {

std::pair<double, const char*> scaled(std::int64_t bytes) {
    static constexpr std::array<const char*, 7> kUnits = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    auto value = static_cast<double>(bytes);
    std::size_t unit = 0;
    while (std::abs(value) >= 1000 && unit + 1 < kUnits.size()) {
        value /= 1000;
        ++unit;
    }
    return {value, kUnits.at(unit)};
}

// RFC 3339 with the offset of this machine.
std::string local_time(Timestamp time) {
    const auto seconds = std::chrono::floor<std::chrono::seconds>(time);
    const std::time_t value = seconds.time_since_epoch().count();
    std::tm parts{};
    ::localtime_r(&value, &parts);
    std::array<char, 64> text{};
    std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &parts);
    if (parts.tm_gmtoff == 0) return std::string(text.data()) + "Z";
    const long minutes = std::abs(parts.tm_gmtoff) / 60;
    return fmt::format("{}{}{:02}:{:02}", text.data(), parts.tm_gmtoff < 0 ? '-' : '+', minutes / 60, minutes % 60);
}

}  // namespace

std::string bytes_text(std::int64_t bytes) {
    const auto [value, unit] = scaled(bytes);
    return std::abs(bytes) < 1000 ? fmt::format("{}B", bytes) : fmt::format("{:.2f}{}", value, unit);
}

std::string short_bytes_text(std::int64_t bytes) {
    const auto [value, unit] = scaled(bytes);
    return fmt::format("{:g}{}", value, unit);
}

std::string time_text(Timestamp time) {
    std::string text = format_rfc3339(time);
    text[10] = ' ';
    text.pop_back();
    return text + " +0000 UTC";
}

Result<std::int64_t> parse_size(std::string_view text) {
    static const std::map<std::string, double> kUnits = {
        {"", 1},     {"b", 1},    {"k", 1e3},   {"kb", 1e3},     {"m", 1e6},      {"mb", 1e6},     {"g", 1e9},
        {"gb", 1e9}, {"t", 1e12}, {"tb", 1e12}, {"kib", 0x1p10}, {"mib", 0x1p20}, {"gib", 0x1p30}, {"tib", 0x1p40}};
    double number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    const auto unit = kUnits.find(to_lower(trim(text.substr(static_cast<std::size_t>(end - text.data())))));
    if (error != std::errc() || unit == kUnits.end() || !(number >= 0) || number * unit->second > 0x1p62) {
        return bad_input("invalid size {}: want a number with kB, MB, GB or TB", quoted(text));
    }
    return static_cast<std::int64_t>(number * unit->second);
}

Result<bool> wants_json(std::string_view format) {
    if (format.empty()) return false;
    std::string plain;
    for (const char c : format) {
        if (c != ' ') plain += c;
    }
    if (plain == "{{json.}}" || plain == "json") return true;
    return bad_input("--format {}: only '{{{{json .}}}}' is known", quoted(format));
}

std::string history_row(const client::HistoryRecord& record) {
    return fmt::format(
        "{}\t{}\t{}\t{}\t{}\t{}\n", record.event, record.ref, record.created ? local_time(*record.created) : "",
        record.completed ? local_time(*record.completed) : "", record.generation, record.pinned ? "*" : "");
}

}  // namespace cooper::buildctl
