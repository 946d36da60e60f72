#include "apps/cooperd/service_manager.hpp"

#include "sys/fd.hpp"

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <sys/socket.h>
#include <sys/un.h>

namespace cooper::cooperd {

void notify_service_manager(std::string_view state) {
    const char* path = std::getenv("NOTIFY_SOCKET");
    struct sockaddr_un name{};
    if (path == nullptr || *path == '\0' || std::strlen(path) >= sizeof name.sun_path) return;
    name.sun_family = AF_UNIX;
    std::strcpy(name.sun_path, path);
    const auto size = static_cast<socklen_t>(offsetof(struct sockaddr_un, sun_path) + std::strlen(path));
    if (name.sun_path[0] == '@') name.sun_path[0] = '\0';  // a name without a file
    const sys::Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ::sendto(socket.get(), state.data(), state.size(), MSG_NOSIGNAL, reinterpret_cast<const struct sockaddr*>(&name),
             size);
}

}  // namespace cooper::cooperd
