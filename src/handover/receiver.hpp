// Receiver: a container engine of this machine that takes images over. It is asked what it has, and only what it lacks
// is sent, straight from the layers, without compressing them.
#pragma once

#include "base/result.hpp"
#include "base/stop.hpp"
#include "exporter/archive.hpp"
#include "handover/grpc_peer.hpp"
#include "http/client.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace cooper::handover {

struct HandedOver {
    std::uint64_t layers = 0;  // of the image
    std::uint64_t layers_sent = 0;
    std::uint64_t bytes_sent = 0;
};

class Receiver {
public:
    virtual ~Receiver() = default;
    // Under its names; without one under its id. One call at a time.
    [[nodiscard]] virtual Result<HandedOver> take(exporter::Packer& packer, const exporter::ArchiveImage& image,
                                                  const Stop& stop) = 0;
};

enum class Kind : std::uint8_t { docker, podman, containerd };
// "docker", "podman" or "containerd".
[[nodiscard]] Result<Kind> parse_kind(std::string_view text);

struct Address {
    Kind kind = Kind::docker;
    // A socket, "unix:///run/docker.sock", or for docker and podman "tcp://host:port". Empty = what the engine's own
    // clients use: $DOCKER_HOST, $CONTAINER_HOST or the program podman, $CONTAINERD_ADDRESS, else the usual socket.
    std::string address;
    std::string name_space;  // of containerd; empty = $CONTAINERD_NAMESPACE, else "default"
};

// The client must outlive the receiver. dial is needed for containerd only.
[[nodiscard]] Result<std::unique_ptr<Receiver>> open_receiver(http::Client& client, DialGrpc dial,
                                                              const Address& address);

}  // namespace cooper::handover
