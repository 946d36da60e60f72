#include "dockerfile/convert_args.hpp"

#include "base/text.hpp"

#include <utility>
#include <vector>

namespace cooper::dockerfile {

llb::EnvList automatic_args(const oci::Platform& build, const oci::Platform& target,
                            const std::map<std::string, std::string>& build_args, std::string_view target_stage) {
    const std::vector<std::pair<const char*, std::string>> values = {
        {"BUILDPLATFORM", oci::format_platform_all(build)},
        {"BUILDOS", build.os},
        {"BUILDOSVERSION", build.os_version},
        {"BUILDARCH", build.architecture},
        {"BUILDVARIANT", build.variant},
        {"TARGETPLATFORM", oci::format_platform_all(target)},
        {"TARGETOS", target.os},
        {"TARGETOSVERSION", target.os_version},
        {"TARGETARCH", target.architecture},
        {"TARGETVARIANT", target.variant},
        {"TARGETSTAGE", std::string(target_stage.empty() ? "default" : target_stage)},
    };
    llb::EnvList out;
    for (const auto& [key, value] : values) {
        const auto given = build_args.find(key);
        out.set(key, given == build_args.end() ? value : given->second);
    }
    return out;
}

std::optional<llb::ProxyEnv> proxy_args(const std::map<std::string, std::string>& build_args) {
    llb::ProxyEnv proxy;
    bool found = false;
    // In order of names, so that of two spellings the lower-case one wins.
    for (const auto& [key, value] : build_args) {
        const std::string name = to_lower(key);
        std::string* slot = nullptr;
        if (name == "http_proxy") slot = &proxy.http_proxy;
        if (name == "https_proxy") slot = &proxy.https_proxy;
        if (name == "ftp_proxy") slot = &proxy.ftp_proxy;
        if (name == "no_proxy") slot = &proxy.no_proxy;
        if (name == "all_proxy") slot = &proxy.all_proxy;
        if (slot == nullptr) continue;
        *slot = value;
        found = true;
    }
    if (!found) return std::nullopt;
    return proxy;
}

std::string default_path(std::string_view os) {
    if (os == "windows") return "c:\\Windows\\System32;c:\\Windows";
    return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
}

oci::ImageConfig empty_image(const oci::Platform& platform) {
    oci::ImageConfig image;
    image.platform = platform;
    image.config.working_dir = "/";
    image.config.env = {"PATH=" + default_path(platform.os)};
    return image;
}

}  // namespace cooper::dockerfile
