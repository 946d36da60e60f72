// containerd by its API: every blob is asked for by its digest, and what is missing is written in pieces, from where an
// interrupted transfer has left off. A lease keeps it until the image has its name.
//
// Nothing is unpacked: whoever runs the image does that (`ctr run`, nerdctl, Kubernetes in the namespace k8s.io). All
// platforms of an image are handed over, and what is attested of them.
// https://github.com/containerd/containerd/blob/main/docs/content-flow.md
#pragma once

#include "handover/grpc_peer.hpp"
#include "handover/receiver.hpp"

namespace cooper::handover {

[[nodiscard]] Result<std::unique_ptr<Receiver>> open_containerd(DialGrpc dial, const std::string& address,
                                                                const std::string& name_space);

}  // namespace cooper::handover
