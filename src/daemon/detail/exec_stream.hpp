// LLBBridge/ExecProcess: the processes of one call. Messages of all processes share the call, told apart by
// ProcessID; each process has a thread that runs it and, when it reads, one that feeds it.
#pragma once

#include "base/guarded.hpp"
#include "daemon/conversations.hpp"
#include "proto/gateway.grpc.pb.h"

#include <map>
#include <memory>
#include <string>

namespace cooper::daemon::detail {

using ExecMessages = grpc::ServerReaderWriterInterface<moby::buildkit::v1::frontend::ExecMessage,
                                                       moby::buildkit::v1::frontend::ExecMessage>;

class ExecStream {
public:
    ExecStream(Conversation& conversation, ExecMessages& messages);
    ~ExecStream();
    // Until the client sends no more and all processes have ended.
    Result<> serve(const Stop& stop);

private:
    class Process;
    Result<> begin(const std::string& id, const moby::buildkit::v1::frontend::InitMessage& init, const Stop& stop);
    void send(const moby::buildkit::v1::frontend::ExecMessage& message);

    Conversation& conversation_;
    ExecMessages& messages_;
    Guarded<int> writing_;
    std::map<std::string, std::unique_ptr<Process>> processes_;
};

}  // namespace cooper::daemon::detail
