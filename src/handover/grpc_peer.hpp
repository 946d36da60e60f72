// GrpcPeer: where calls of gRPC go. Messages are bytes: whoever calls knows them. Declared here and implemented by the
// program that links gRPC's library, which `cooper` does not.
#pragma once

#include "base/result.hpp"
#include "base/stop.hpp"

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cooper::handover {

// Messages in both directions, of one thread.
class GrpcCall {
public:
    virtual ~GrpcCall() = default;
    // false: the peer sends no more. A status that is not OK is an error with its Code.
    virtual Result<bool> read(std::string& message) = 0;
    // After an error read() says why.
    virtual Result<> write(std::string_view message) = 0;
    virtual Result<> close_write() = 0;
};

class GrpcPeer {
public:
    virtual ~GrpcPeer() = default;
    // method: "/package.Service/Method". Any thread.
    virtual std::unique_ptr<GrpcCall> call(const std::string& method,
                                           const std::vector<std::pair<std::string, std::string>>& metadata,
                                           const Stop& stop) = 0;
};

// Connects to the socket at an absolute path.
using DialGrpc = std::function<Result<std::unique_ptr<GrpcPeer>>(const std::string& socket, const Stop& stop)>;

}  // namespace cooper::handover
