// The service manager's side of sd_notify(3), without its library: a datagram to $NOTIFY_SOCKET.
#pragma once

#include <string_view>

namespace cooper::cooperd {

// "READY=1", "STOPPING=1". Nobody listening is no error.
void notify_service_manager(std::string_view state);

}  // namespace cooper::cooperd
