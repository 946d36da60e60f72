// Git addresses: nothing that is accepted may look like an option or another transport.
#include "source/git_url.hpp"

#include <cstddef>
#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    if (const auto url = cooper::source::GitUrl::parse(text)) {
        const std::string remote = url->remote();
        CHECK(!remote.empty() && !remote.starts_with('-'));
        // "helper::address" would run git-remote-helper.
        CHECK(remote.find("::") >= remote.find_first_of("@/"));
        CHECK(!url->host.starts_with('-') && !url->ref.starts_with('-'));
        CHECK(!url->subdir.starts_with('/') && ("/" + url->subdir + "/").find("/../") == std::string::npos);
        const auto again = cooper::source::GitUrl::parse(remote);
        CHECK(again && again->remote() == remote);
    }
    return 0;
}
