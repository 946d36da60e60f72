// FakeServer: a real HTTP/1.1 server on a free loopback port, for tests. A handler answers each
// request on a thread of its connection; all requests are recorded.
#pragma once

#include "http/message.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace cooper::http {

struct FakeRequest {
    std::string method;
    std::string target;  // path and query
    Headers headers;
    std::string body;
};

struct FakeResponse {
    int status = 200;
    Headers headers;
    std::string body;
    // Close the connection after this many bytes of the body (Content-Length promises all of it).
    std::optional<std::size_t> cut_after;
    // Close without answering at all.
    bool drop = false;
    // Send the head and cut_after bytes, then hold the connection open until the server goes.
    bool hang = false;
};

class FakeServer {
public:
    using Handler = std::function<FakeResponse(const FakeRequest&)>;

    explicit FakeServer(Handler handler);
    // On a unix socket at this path instead.
    FakeServer(Handler handler, const std::string& socket_path);
    FakeServer(const FakeServer&) = delete;
    FakeServer& operator=(const FakeServer&) = delete;
    ~FakeServer();

    [[nodiscard]] std::string url() const;   // "http://127.0.0.1:PORT"
    [[nodiscard]] std::string host() const;  // "127.0.0.1:PORT"
    [[nodiscard]] std::vector<FakeRequest> requests() const;
    [[nodiscard]] std::size_t count(const std::string& method, const std::string& target) const;

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace cooper::http
