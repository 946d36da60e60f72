#include "dockerfile/convert_text.hpp"

#include "base/text.hpp"

#include <fmt/core.h>

namespace cooper::dockerfile {

namespace {

struct Rune {
    std::uint32_t value = 0;
    std::size_t size = 0;  // 0: no valid UTF-8
};

Rune decode(std::string_view text) {
    const auto byte = [&](std::size_t i) -> std::uint32_t {
        return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U;
    };
    const auto tail = [&](std::size_t i) { return (byte(i) & 0xC0U) == 0x80U; };
    const std::uint32_t lead = byte(0);
    if (lead < 0x80) return {lead, 1};
    if (lead >= 0xC2 && lead <= 0xDF && tail(1)) return {((lead & 0x1FU) << 6U) | (byte(1) & 0x3FU), 2};
    if (lead >= 0xE0 && lead <= 0xEF && tail(1) && tail(2)) {
        const std::uint32_t rune = ((lead & 0xFU) << 12U) | ((byte(1) & 0x3FU) << 6U) | (byte(2) & 0x3FU);
        if (rune < 0x800 || (rune >= 0xD800 && rune <= 0xDFFF)) return {};
        return {rune, 3};
    }
    if (lead >= 0xF0 && lead <= 0xF4 && tail(1) && tail(2) && tail(3)) {
        const std::uint32_t rune =
            ((lead & 7U) << 18U) | ((byte(1) & 0x3FU) << 12U) | ((byte(2) & 0x3FU) << 6U) | (byte(3) & 0x3FU);
        if (rune < 0x10000 || rune > 0x10FFFF) return {};
        return {rune, 4};
    }
    return {};
}

// strconv.IsPrint, as far as texts of images need it: spaces other than U+0020, controls, format
// characters, surrogates and private use are not printable.
bool is_printable(std::uint32_t rune) {
    if (rune < 0x20 || (rune >= 0x7F && rune <= 0xA0) || rune == 0xAD) return false;
    if (rune >= 0x2000 && rune <= 0x200F) return false;
    if (rune >= 0x2028 && rune <= 0x202F) return false;
    if (rune >= 0x205F && rune <= 0x206F) return false;
    if (rune == 0x3000 || rune == 0xFEFF || rune == 0x1680) return false;
    if (rune >= 0xE000 && rune <= 0xF8FF) return false;
    return rune < 0xE0000;
}

void append_escaped(std::string& out, std::uint32_t rune) {
    switch (rune) {
        case '\a':
            out += "\\a";
            return;
        case '\b':
            out += "\\b";
            return;
        case '\f':
            out += "\\f";
            return;
        case '\n':
            out += "\\n";
            return;
        case '\r':
            out += "\\r";
            return;
        case '\t':
            out += "\\t";
            return;
        case '\v':
            out += "\\v";
            return;
        default:
            break;
    }
    if (rune < 0x20 || rune == 0x7F) {
        out += fmt::format("\\x{:02x}", rune);
    } else if (rune < 0x10000) {
        out += fmt::format("\\u{:04x}", rune);
    } else {
        out += fmt::format("\\U{:08x}", rune);
    }
}

void append_utf8(std::string& out, std::uint32_t rune) {
    const auto tail = [rune](unsigned shift) { return static_cast<char>(0x80U | ((rune >> shift) & 0x3FU)); };
    if (rune < 0x80) {
        out += static_cast<char>(rune);
    } else if (rune < 0x800) {
        out += {static_cast<char>(0xC0U | (rune >> 6U)), tail(0)};
    } else if (rune < 0x10000) {
        out += {static_cast<char>(0xE0U | (rune >> 12U)), tail(6), tail(0)};
    } else {
        out += {static_cast<char>(0xF0U | (rune >> 18U)), tail(12), tail(6), tail(0)};
    }
}

// %q of a number: the character it stands for.
std::string go_quote_rune(std::int64_t value) {
    const bool is_rune = value >= 0 && value <= 0x10FFFF && (value < 0xD800 || value > 0xDFFF);
    const std::uint32_t rune = is_rune ? static_cast<std::uint32_t>(value) : 0xFFFD;
    std::string out = "'";
    if (rune == '\'' || rune == '\\') {
        out += {'\\', static_cast<char>(rune)};
    } else if (is_printable(rune)) {
        append_utf8(out, rune);
    } else {
        append_escaped(out, rune);
    }
    return out + "'";
}

// "1.5" for 1500 of unit 1000.
std::string decimal(std::uint64_t value, std::uint64_t unit) {
    std::string out = std::to_string(value / unit);
    std::uint64_t rest = value % unit;
    if (rest == 0) return out;
    std::string digits;
    for (std::uint64_t step = unit / 10; step > 0 && rest > 0; step /= 10) {
        digits += static_cast<char>('0' + rest / step);
        rest %= step;
    }
    return out + "." + digits;
}

}  // namespace

std::string go_quote(std::string_view text) {
    std::string out = "\"";
    while (!text.empty()) {
        const Rune rune = decode(text);
        const std::string_view here = text.substr(0, rune.size == 0 ? 1 : rune.size);
        if (rune.size == 0) {
            out += fmt::format("\\x{:02x}", static_cast<unsigned char>(here.front()));
        } else if (here == "\"" || here == "\\") {
            out += '\\';
            out += here;
        } else if (is_printable(rune.value)) {
            out += here;
        } else {
            append_escaped(out, rune.value);
        }
        text.remove_prefix(here.size());
    }
    return out + "\"";
}

std::string go_quoted_list(const std::vector<std::string>& list) {
    std::string out = "[";
    for (const std::string& item : list) {
        if (out.size() > 1) out += ' ';
        out += go_quote(item);
    }
    return out + "]";
}

std::string go_plain_list(const std::vector<std::string>& list) { return "[" + join(list, " ") + "]"; }

std::string go_duration(std::int64_t nanoseconds) {
    if (nanoseconds == 0) return "0s";
    const bool negative = nanoseconds < 0;
    std::uint64_t left =
        negative ? 0 - static_cast<std::uint64_t>(nanoseconds) : static_cast<std::uint64_t>(nanoseconds);
    std::string out = negative ? "-" : "";
    if (left < 1000) return out + std::to_string(left) + "ns";
    if (left < 1'000'000) return out + decimal(left, 1000) + "µs";
    if (left < 1'000'000'000) return out + decimal(left, 1'000'000) + "ms";
    constexpr std::uint64_t kMinute = 60'000'000'000;
    const std::uint64_t minutes = left / kMinute;
    if (minutes >= 60) out += std::to_string(minutes / 60) + "h";
    if (minutes > 0) out += std::to_string(minutes % 60) + "m";
    return out + decimal(left % kMinute, 1'000'000'000) + "s";
}

std::string go_healthcheck(const oci::Healthcheck& health) {
    return fmt::format("&{{{} {} {} {} {} {}}}", go_quoted_list(health.test), go_quote(go_duration(health.interval_ns)),
                       go_quote(go_duration(health.timeout_ns)), go_quote(go_duration(health.start_period_ns)),
                       go_quote(go_duration(health.start_interval_ns)), go_quote_rune(health.retries));
}

std::string uppercase_command(std::string_view text) {
    const std::size_t space = text.find(' ');
    if (space == std::string_view::npos) return to_upper(text);
    return to_upper(text.substr(0, space)) + std::string(text.substr(space));
}

std::string summarize_heredoc(std::string_view body) {
    const std::string_view text = trim(body);
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) return std::string(text);
    std::string_view first = text.substr(0, end);
    if (first.ends_with('\r')) first.remove_suffix(1);
    return std::string(first) + "...";
}

}  // namespace cooper::dockerfile
