// Listener: a socket that takes clients, made from an address. Any thread.
#pragma once

#include "base/result.hpp"
#include "base/stop.hpp"
#include "sys/fd.hpp"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace cooper::daemon {

struct SocketOwnership {
    std::optional<std::uint32_t> uid;
    std::optional<std::uint32_t> gid;
};

struct ListeningSocket {
    sys::Fd socket;
    std::string address;      // as asked for, with the port that was chosen
    std::string remove_path;  // a unix socket of ours, to be removed; empty otherwise
    bool is_unix = false;
};
// One address; fd:// alone stands for all sockets that the service manager passed (LISTEN_FDS), fd://N for one.
[[nodiscard]] Result<std::vector<ListeningSocket>> listen_at(const std::string& address,
                                                             const SocketOwnership& ownership);
// "host:port", as --debugaddr has it, or an address as above.
[[nodiscard]] Result<ListeningSocket> listen_for_debug(const std::string& address);

// Hands connections to `take`, on a thread of its own, until it goes; then removes its socket file.
class Listener {
public:
    Listener(ListeningSocket socket, std::function<void(sys::Fd)> take);
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;
    ~Listener();
    [[nodiscard]] const std::string& address() const { return socket_.address; }

private:
    void run(const Stop& stop) noexcept;
    ListeningSocket socket_;
    std::function<void(sys::Fd)> take_;
    std::jthread thread_;
};

}  // namespace cooper::daemon
