// Arguments every Dockerfile has without saying so, and what FROM scratch begins with.
#pragma once

#include "llb/state.hpp"
#include "oci/image_config.hpp"
#include "oci/platform.hpp"

#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace cooper::dockerfile {

// BUILDPLATFORM … TARGETSTAGE; build arguments of the same name win.
[[nodiscard]] llb::EnvList automatic_args(const oci::Platform& build, const oci::Platform& target,
                                          const std::map<std::string, std::string>& build_args,
                                          std::string_view target_stage);
// http_proxy and its kin among the build arguments, in any case; nullopt when there is none.
[[nodiscard]] std::optional<llb::ProxyEnv> proxy_args(const std::map<std::string, std::string>& build_args);
[[nodiscard]] oci::ImageConfig empty_image(const oci::Platform& platform);
[[nodiscard]] std::string default_path(std::string_view os);

}  // namespace cooper::dockerfile
