// Podman: it is asked whether it has the image, and else told to pull it from a registry on loopback that lives in this
// process for as long. Podman itself knows which layers it has, and asks for the others only. Then the image gets its
// names. By the API of a service that is named, else by the program `podman`, else by the usual socket.
// https://docs.podman.io/en/latest/_static/api.html
#pragma once

#include "handover/receiver.hpp"

namespace cooper::handover {

[[nodiscard]] Result<std::unique_ptr<Receiver>> open_podman(http::Client& client, const std::string& address);

}  // namespace cooper::handover
