// The services of a session, as gRPC has them. Each outlives the server it is given to.
#pragma once

#include "base/guarded.hpp"
#include "client/offer.hpp"
#include "rpc/message_stream.hpp"

#include <grpcpp/impl/service_type.h>
#include <memory>
#include <optional>
#include <vector>

namespace cooper::client::detail {

struct Shared {
    Offer offer;
    Stop stop;  // the session ends
    Guarded<std::optional<Error>> failure;
    Guarded<std::map<std::string, std::unique_ptr<session::SshSocket>>> agents;

    // Keeps the first.
    Error keep(const Error& error) {
        auto kept = failure.lock();
        if (!*kept && !error.is_cancelled()) *kept = error;
        return error;
    }
};

// FileSync, FileSend, Upload.
[[nodiscard]] std::vector<rpc::RawMethod> file_methods(Shared& shared);
// Secrets, SSH, Auth.
[[nodiscard]] std::vector<std::unique_ptr<grpc::Service>> value_services(Shared& shared);
[[nodiscard]] std::unique_ptr<grpc::Service> content_service(Shared& shared);

}  // namespace cooper::client::detail
