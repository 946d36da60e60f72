// Server: the whole daemon over one state directory, from its options to its sockets. Started ready to serve; shut down
// with nothing of it left.
#pragma once

#include "base/result.hpp"
#include "daemon/history.hpp"
#include "daemon/progress_hub.hpp"
#include "daemon/tls_gate.hpp"
#include "daemon/worker.hpp"
#include "engine/config.hpp"

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace cooper::daemon {

struct ServerOptions {
    std::vector<std::string> addresses;  // unix://, tcp://, fd://
    std::string root;                    // state directory
    engine::Config config;
    TlsFiles tls;                             // of tcp:// and fd:// that are no unix sockets
    std::optional<std::uint32_t> socket_uid;  // owner and group of unix sockets; they get mode 0660
    std::optional<std::uint32_t> socket_gid;
    std::string debug_address;  // host:port or unix://…: metrics and what goes on, over HTTP
    std::vector<std::string> allowed_entitlements;
    std::map<std::string, std::string> labels;  // of the worker, beside BuildKit's
    std::vector<oci::Platform> platforms;       // empty = found
    bool gc = true;
    std::vector<GcPolicy> gc_policies;  // empty = the engine's own rule
    HistoryLimits history;
    LogLimits log_limits;
};

class Server {
public:
    // Creates what is missing in the state directory, and the sockets. A state directory that another daemon serves, an
    // address that is taken: errors that say by whom.
    static Result<std::unique_ptr<Server>> start(ServerOptions options);
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;
    // As shutdown(0).
    ~Server();

    // Sockets are closed at once; builds have this long to end, then they are cancelled. Returns when nothing runs.
    void shutdown(std::chrono::milliseconds grace);
    // Any thread, while another is in shutdown(): no build is waited for any longer.
    void cancel_builds();

private:
    Server() = default;
    struct Parts;
    std::unique_ptr<Parts> parts_;
    std::atomic<bool> impatient_{false};
};

}  // namespace cooper::daemon
