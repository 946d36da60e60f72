// Docker's daemon by its API.
//
// One that keeps images as layers takes an archive that lacks those it has. One with containerd's image store does not:
// it is given the whole image, unless it has that.
// https://docs.docker.com/reference/api/engine/
#pragma once

#include "handover/receiver.hpp"

namespace cooper::handover {

[[nodiscard]] Result<std::unique_ptr<Receiver>> open_docker(http::Client& client, const std::string& address);

}  // namespace cooper::handover
