// How deletions are written: OCI's names in tars, overlayfs's marks in directories.
#pragma once

#include <string_view>

namespace cooper::layer::detail {

inline constexpr std::string_view kWhiteoutPrefix = ".wh.";
inline constexpr std::string_view kOpaqueMarker = ".wh..wh..opq";
inline constexpr const char* kOpaqueXattr = "trusted.overlay.opaque";
inline constexpr const char* kUserOpaqueXattr = "user.overlay.opaque";  // in user namespaces

[[nodiscard]] inline bool is_overlay_xattr(std::string_view name) {
    return name.starts_with("trusted.overlay.") || name.starts_with("user.overlay.");
}

// ".wh..wh.plnk/…" and the like: bookkeeping of aufs that old images still carry.
[[nodiscard]] inline bool is_aufs_metadata(std::string_view path) {
    constexpr std::string_view kMeta = ".wh..wh.";
    for (std::size_t at = 0; at < path.size();) {
        const std::string_view rest = path.substr(at);
        const std::string_view part = rest.substr(0, rest.find('/'));
        if (part.starts_with(kMeta) && !(part == kOpaqueMarker && part.size() == rest.size())) return true;
        at += part.size() + 1;
    }
    return false;
}

}  // namespace cooper::layer::detail
