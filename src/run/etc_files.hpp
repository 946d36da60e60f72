// /etc/resolv.conf and /etc/hosts of a container, as BuildKit makes them.
#pragma once

#include "run/process_spec.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace cooper::run {

// From the host's resolv.conf: name servers on the loopback are of no use in another network
// namespace and dropped; when none is left, public ones take their place. `servers` replaces the
// host's name servers when not empty. For NetworkMode::host the text is taken unchanged.
[[nodiscard]] std::string make_resolv_conf(std::string_view host_text, NetworkMode mode,
                                           const std::vector<std::string>& servers);
// The host's file to start from: /etc/resolv.conf, or systemd-resolved's own when that one names only
// 127.0.0.53. Empty when there is none.
[[nodiscard]] std::string read_host_resolv_conf();

[[nodiscard]] std::string make_hosts(std::string_view hostname, const std::vector<ExtraHost>& extra);

}  // namespace cooper::run
