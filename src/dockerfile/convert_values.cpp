#include "dockerfile/convert_values.hpp"

#include "base/text.hpp"

#include <algorithm>
#include <array>
#include <fmt/core.h>

namespace cooper::dockerfile {

namespace {

struct Range {
    std::uint32_t first = 0;
    std::uint32_t last = 0;
};

std::optional<std::uint32_t> port_number(std::string_view text) {
    if (text.empty() || !std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; })) {
        return std::nullopt;
    }
    const auto number = parse_int(text);
    if (!number || *number > 65535) return std::nullopt;
    return static_cast<std::uint32_t>(*number);
}

std::optional<Range> port_range(std::string_view text) {
    const auto [first, last] = cut(text, '-');
    const auto begin = port_number(first);
    const auto end = last ? port_number(*last) : begin;
    if (!begin || !end || *end < *begin) return std::nullopt;
    return Range{*begin, *end};
}

bool is_ipv4(std::string_view text) {
    const std::vector<std::string> parts = split(text, '.');
    return parts.size() == 4 && std::ranges::all_of(parts, [](const std::string& part) {
               const auto number = port_number(part);
               return number && *number <= 255 && (part.size() == 1 || part.front() != '0');
           });
}

// Enough to tell an address from a slip of the pen; nothing is ever done with it.
bool is_ip(std::string_view text) {
    if (text.starts_with('[') && text.ends_with(']')) text = text.substr(1, text.size() - 2);
    if (text.find(':') == std::string_view::npos) return is_ipv4(text);
    return std::ranges::all_of(text, [](char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F') || c == ':' || c == '.' ||
               c == '%';
    });
}

constexpr std::array<std::string_view, 37> kSignals = {
    "ABRT", "ALRM", "BUS",  "CHLD", "CLD",    "CONT",  "FPE",    "HUP",  "ILL",   "INT",   "IO",    "IOT",  "KILL",
    "PIPE", "POLL", "PROF", "PWR",  "QUIT",   "SEGV",  "STKFLT", "STOP", "SYS",   "TERM",  "TRAP",  "TSTP", "TTIN",
    "TTOU", "URG",  "USR1", "USR2", "VTALRM", "WINCH", "XCPU",   "XFSZ", "RTMIN", "RTMAX", "UNUSED"};

bool is_realtime(std::string_view name) {
    const bool from_min = name.starts_with("RTMIN+");
    const bool from_max = name.starts_with("RTMAX-");
    if (!from_min && !from_max) return false;
    const auto offset = port_number(name.substr(6));
    return offset && *offset >= 1 && *offset <= (from_min ? 15U : 14U);
}

constexpr std::string_view kWho = "ugoa";
constexpr std::string_view kPermissions = "rwxXst";

// One clause of chmod(1): [ugoa]*([-+=]([rwxXst]*|[ugo]))+
bool is_mode_clause(std::string_view clause) {
    std::size_t at = 0;
    while (at < clause.size() && kWho.find(clause[at]) != std::string_view::npos) ++at;
    if (at == clause.size()) return false;
    while (at < clause.size()) {
        if (clause[at] != '+' && clause[at] != '-' && clause[at] != '=') return false;
        ++at;
        if (at < clause.size() && std::string_view("ugo").find(clause[at]) != std::string_view::npos) {
            ++at;
            continue;
        }
        while (at < clause.size() && kPermissions.find(clause[at]) != std::string_view::npos) ++at;
    }
    return true;
}

}  // namespace

Result<ExposedPorts> parse_port(std::string_view spec) {
    ExposedPorts out;
    std::vector<std::string> parts = split(spec, ':');
    const std::string container = parts.back();
    const auto [port, raw_proto] = cut(container, '/');
    if (port.empty()) return bad_input("no port specified: {}<empty>", container);
    std::string proto = to_lower(raw_proto.value_or(""));
    out.casing = raw_proto && proto != *raw_proto;
    if (proto.empty()) proto = "tcp";
    if (proto != "tcp" && proto != "udp" && proto != "sctp") return bad_input("invalid proto: {}", proto);
    const auto range = port_range(port);
    if (!range) return bad_input("invalid containerPort: {}", port);
    if (parts.size() > 1) {
        out.has_host = true;
        const std::string host_port = parts[parts.size() - 2];
        parts.resize(parts.size() - 2);
        const std::string ip = join(parts, ":");
        if (!ip.empty() && !is_ip(ip)) return bad_input("invalid IP address: {}", ip);
        if (!host_port.empty()) {
            const auto host = port_range(host_port);
            if (!host) return bad_input("invalid hostPort: {}", host_port);
            if (range->last - range->first != host->last - host->first && range->first != range->last) {
                return bad_input("invalid ranges specified for container and host Ports: {} and {}", port, host_port);
            }
        }
        if (ip.empty() && host_port.empty()) out.has_host = false;
    }
    for (std::uint32_t number = range->first; number <= range->last; ++number) {
        out.ports.push_back(fmt::format("{}/{}", number, proto));
    }
    return out;
}

Result<> check_signal(std::string_view text) {
    if (const auto number = parse_int(text)) {
        if (*number != 0) return {};
        return bad_input("invalid signal: {}", text);
    }
    std::string name = to_upper(text);
    if (name.starts_with("SIG")) name.erase(0, 3);
    if (std::ranges::find(kSignals, name) != kSignals.end() || is_realtime(name)) return {};
    return bad_input("invalid signal: {}", text);
}

Result<ChmodValue> parse_chmod(std::string_view text) {
    const auto not_octal = [&] {
        return bad_input("invalid chmod parameter: '{}'. it should be octal string and between 0 and 07777", text);
    };
    ChmodValue value;
    const bool digits = !text.empty() && text.front() >= '0' && text.front() <= '9';
    if (digits) {
        const auto mode = parse_octal(text);
        if (!mode || *mode > 07777) return not_octal();
        value.mode = static_cast<std::int32_t>(*mode);
        return value;
    }
    for (const std::string& clause : split(text, ',')) {
        if (!is_mode_clause(clause)) {
            return bad_input("invalid chmod parameter: '{}'", text)
                .with_hint("write an octal number like 0755 or a symbolic mode like u=rwX,go=rX");
        }
    }
    value.mode_str = text;
    return value;
}

}  // namespace cooper::dockerfile
