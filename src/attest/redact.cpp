#include "attest/redact.hpp"

namespace cooper::attest {

std::string without_credentials(std::string_view text) {
    static constexpr std::string_view kAfterAuthority = "/?# \t\r\n\"'`\\<>";
    std::string out;
    out.reserve(text.size());
    std::size_t at = 0;
    while (true) {
        const std::size_t mark = text.find("://", at);
        if (mark == std::string_view::npos) break;
        const std::size_t start = mark + 3;
        const std::size_t end = std::min(text.find_first_of(kAfterAuthority, start), text.size());
        const std::string_view authority = text.substr(start, end - start);
        out += text.substr(at, start - at);
        at = start;
        const std::size_t host = authority.rfind('@');
        if (host == std::string_view::npos) continue;
        const std::string_view user = authority.substr(0, host);
        const bool password = user.find(':') != std::string_view::npos;
        const bool web = text.substr(0, mark).ends_with("http") || text.substr(0, mark).ends_with("https");
        if (!password && !web) continue;
        out += password ? "xxxxx:xxxxx" : "xxxxx";
        at = start + host;
    }
    out += text.substr(at);
    return out;
}

}  // namespace cooper::attest
