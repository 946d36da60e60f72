// WWW-Authenticate headers and URLs, as a registry may send them.
#include "registry/auth_challenge.hpp"

#include "http/url.hpp"

#include <cstddef>
#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const auto challenges = cooper::registry::parse_challenges(text);
    CHECK(challenges.size() <= 16);
    if (const auto url = cooper::http::Url::parse(text)) {
        const auto again = cooper::http::Url::parse(url->to_string());
        CHECK(again && again->to_string() == url->to_string());
    }
    const auto base = cooper::http::Url::parse("https://host/a/b");
    if (const auto target = cooper::http::resolve(*base, text)) CHECK(target->path.starts_with('/'));
    CHECK(cooper::http::percent_decode(cooper::http::percent_encode(text)) == text);
    return 0;
}
