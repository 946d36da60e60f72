// Publishes ports of a container on the host: a userspace proxy, one thread for all ports. TCP
// connections and UDP datagrams are passed to the container's own address, or 127.0.0.1, inside the container's network
// namespace (and to nothing else), so publishing needs no packet filter and works from the host's loopback too.
#pragma once

#include "base/result.hpp"
#include "run/process_spec.hpp"
#include "sys/fd.hpp"

#include <memory>
#include <vector>

namespace cooper::run {

class PortProxy {
public:
    PortProxy();
    PortProxy(const PortProxy&) = delete;
    PortProxy& operator=(const PortProxy&) = delete;
    ~PortProxy();  // closes everything

    // Listens (already_exists with a hint when a port is taken) and starts to serve.
    [[nodiscard]] Result<> start(std::vector<PublishedPort> ports, int namespace_fd, const std::string& address);
    // With the host ports that were chosen.
    [[nodiscard]] const std::vector<PublishedPort>& ports() const;

private:
    class Server;
    std::unique_ptr<Server> server_;
};

}  // namespace cooper::run
