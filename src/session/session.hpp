// Session: what the client of a build offers to it: secrets and SSH agents. Asked for when a step needs
// them, and only then. `cooper build` reads its own files and sockets (LocalSession); a daemon would
// ask through a tunnel. Any thread; calls may block.
#pragma once

#include "base/result.hpp"
#include "base/stop.hpp"

#include <memory>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

namespace cooper::session {

// A value that must not be shown: prints as "***" everywhere, and is wiped when it goes.
class Secret {
public:
    Secret() = default;
    explicit Secret(std::string value) : value_(std::move(value)) {}
    Secret(const Secret&) = default;
    Secret(Secret&&) noexcept = default;
    Secret& operator=(const Secret&) = default;
    Secret& operator=(Secret&&) noexcept = default;
    ~Secret();
    [[nodiscard]] const std::string& reveal() const { return value_; }

private:
    std::string value_;
};

// A socket on the host that speaks the agent protocol, for as long as this lives.
class SshSocket {
public:
    virtual ~SshSocket() = default;
    [[nodiscard]] virtual const std::string& host_path() const = 0;
};

struct SocketOwner {
    uid_t uid = 0;
    gid_t gid = 0;
    mode_t mode = 0600;
};

class Session {
public:
    virtual ~Session() = default;
    // nullopt when the client offers no such secret. At most 512 KiB, as BuildKit allows.
    virtual Result<std::optional<Secret>> find_secret(const std::string& id, Stop stop) = 0;
    // nullptr when the client forwards no such agent. The socket gets the owner and mode asked for.
    virtual Result<std::unique_ptr<SshSocket>> open_ssh(const std::string& id, const SocketOwner& owner, Stop stop) = 0;
};

}  // namespace cooper::session
