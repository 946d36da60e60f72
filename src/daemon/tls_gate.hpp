// TlsGate: takes TLS connections and gives what is said in them to a plain socket. gRPC's own server refuses clients
// that do not negotiate a protocol (ALPN), which docker buildx does not.
//
// Any thread. A connection has a thread of its own until either side ends it or the gate goes.
#pragma once

#include "base/guarded.hpp"
#include "base/result.hpp"
#include "sys/fd.hpp"

#include <functional>
#include <memory>
#include <string>

namespace cooper::daemon {

// PEM files; client_ca empty = clients need no certificate.
struct TlsFiles {
    std::string certificate;
    std::string key;
    std::string client_ca;
};

class TlsGate {
public:
    static Result<std::unique_ptr<TlsGate>> create(const TlsFiles& files);
    TlsGate(const TlsGate&) = delete;
    TlsGate& operator=(const TlsGate&) = delete;
    // Breaks all connections.
    ~TlsGate();

    // Shakes hands with the client, and gives the plain side to `serve` when that went well.
    void take(sys::Fd client, std::function<void(sys::Fd)> serve);

private:
    struct State;
    class Connection;
    explicit TlsGate(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace cooper::daemon
