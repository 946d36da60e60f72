#include "handover/receiver.hpp"

#include "base/text.hpp"
#include "handover/containerd.hpp"
#include "handover/docker.hpp"
#include "handover/podman.hpp"

namespace cooper::handover {

Result<Kind> parse_kind(std::string_view text) {
    if (text == "docker") return Kind::docker;
    if (text == "podman") return Kind::podman;
    if (text == "containerd") return Kind::containerd;
    return bad_input("{}: want docker, podman or containerd", quoted(text));
}

Result<std::unique_ptr<Receiver>> open_receiver(http::Client& client, DialGrpc dial, const Address& address) {
    if (!address.name_space.empty() && address.kind != Kind::containerd)
        return bad_input("a namespace ({}) is of containerd only", quoted(address.name_space));
    switch (address.kind) {
        case Kind::docker:
            return open_docker(client, address.address);
        case Kind::podman:
            return open_podman(client, address.address);
        case Kind::containerd:
            return open_containerd(std::move(dial), address.address, address.name_space);
    }
    UNREACHABLE();
}

}  // namespace cooper::handover
