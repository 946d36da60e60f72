// docker-credential-NAME: programs that keep passwords. Protocol: verb as argument, one document on
// standard input, one on standard output.
#pragma once

#include "base/stop.hpp"
#include "registry/credentials.hpp"

#include <optional>
#include <string>

namespace cooper::registry::detail {

// server is the key docker uses ("https://index.docker.io/v1/" or a host). nullopt = knows nothing.
[[nodiscard]] Result<std::optional<Credential>> helper_get(const std::string& helper, const std::string& server,
                                                           const Stop& stop);
[[nodiscard]] Result<> helper_store(const std::string& helper, const std::string& server, const Credential& credential,
                                    const Stop& stop);
// False when it knew nothing.
[[nodiscard]] Result<bool> helper_erase(const std::string& helper, const std::string& server, const Stop& stop);

}  // namespace cooper::registry::detail
