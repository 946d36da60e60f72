// Names of cache mounts as the state directory has them: "NAMESPACE/ID", and of a mount that begins with content
// "NAMESPACE/ID:DIGEST". The name space is empty unless BUILDKIT_CACHE_MOUNT_NS says otherwise.
#pragma once

#include <string>
#include <string_view>

namespace cooper::engine {

// As people write it: "ID" of "/ID".
[[nodiscard]] inline std::string shown_mount(std::string_view key) {
    return std::string(key.starts_with('/') && key.size() > 1 ? key.substr(1) : key);
}

// Without the digest of what it begins with.
[[nodiscard]] inline std::string_view mount_without_content(std::string_view key) {
    constexpr std::size_t kDigestLength = 8 + 64;
    const std::size_t digest = key.rfind(":sha256:");
    if (digest != std::string_view::npos && key.size() - digest == kDigestLength) return key.substr(0, digest);
    return key.ends_with(':') ? key.substr(0, key.size() - 1) : key;
}

}  // namespace cooper::engine
