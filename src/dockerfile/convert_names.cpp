#include "dockerfile/convert_names.hpp"

#include <fmt/core.h>

namespace cooper::dockerfile {

namespace {

// What TARGET* variables of the stage say, if anything.
std::optional<oci::Platform> platform_of(const llb::EnvList& env) {
    oci::Platform platform;
    bool found = false;
    for (const auto& [key, value] : env.entries()) {
        if (key == "TARGETPLATFORM") {
            auto parsed = oci::parse_platform(value);
            if (parsed) return std::move(*parsed);
        } else if (key == "TARGETOS") {
            platform.os = value;
            found = true;
        } else if (key == "TARGETARCH") {
            platform.architecture = value;
            found = true;
        } else if (key == "TARGETVARIANT") {
            platform.variant = value;
            found = true;
        }
    }
    if (!found) return std::nullopt;
    return platform;
}

std::string target_suffix(const oci::Platform& base, std::optional<oci::Platform> target) {
    if (!target) return {};
    if (target->os.empty()) target->os = base.os;
    if (target->architecture.empty()) target->architecture = base.architecture;
    const oci::Platform platform = oci::normalize(*target);
    if (platform.os != base.os) return "->" + oci::format_platform_all(platform);
    if (platform.architecture == base.architecture) return {};
    return "->" + platform.architecture + (platform.variant.empty() ? "" : "/" + platform.variant);
}

}  // namespace

std::string step_name(StepCounter& counter, std::string_view command, const oci::Platform* platform,
                      const llb::EnvList* env) {
    if (counter.total == 0) return std::string(command);
    std::string out = "[";
    if (counter.show_platform && platform != nullptr) {
        out += oci::format_platform_all(*platform);
        if (env != nullptr) out += target_suffix(*platform, platform_of(*env));
        out += ' ';
    }
    if (!counter.stage.empty()) out += counter.stage + ' ';
    ++counter.index;
    const std::size_t width = std::to_string(counter.total).size();
    out += fmt::format("{:>{}}/{}] ", counter.index, width, counter.total);
    if (counter.on_build) out += "ONBUILD ";
    return out + std::string(command);
}

llb::Platform to_llb_platform(const oci::Platform& platform) {
    return {.architecture = platform.architecture,
            .os = platform.os,
            .variant = platform.variant,
            .os_version = platform.os_version,
            .os_features = platform.os_features};
}

oci::Platform from_llb_platform(const llb::Platform& platform) {
    return {.os = platform.os,
            .architecture = platform.architecture,
            .variant = platform.variant,
            .os_version = platform.os_version,
            .os_features = platform.os_features};
}

}  // namespace cooper::dockerfile
