// SocketForward: a listening unix socket whose connections are passed on to another one. One thread
// serves all connections; it ends with the object.
#pragma once

#include "base/result.hpp"
#include "sys/fd.hpp"

#include <memory>
#include <string>
#include <thread>

namespace cooper::session {

class SocketForward {
public:
    static Result<std::unique_ptr<SocketForward>> start(const std::string& listen_path, const std::string& target_path);
    SocketForward(const SocketForward&) = delete;
    SocketForward& operator=(const SocketForward&) = delete;
    ~SocketForward();

private:
    SocketForward() = default;
    void serve() noexcept;

    sys::Fd listener_;
    sys::Pipe wake_;
    std::string target_path_;
    std::jthread thread_;
};

}  // namespace cooper::session
