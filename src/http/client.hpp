// Client: HTTP over libcurl, which is loaded (dlopen) on the first request, so that a program that
// never goes online never pays for it.
//
// Threads: any number may send at once; a Response belongs to one thread at a time. Everything
// happens on the caller's thread: a body is received while it is read, and not faster. A Stop ends a
// wait at once, also in later reads of the body. A Response must not outlive its Client.
//
// Redirects are followed here (ten at most): Authorization and Cookie are dropped when the host, port
// or scheme changes; 303, and 301/302 of anything but GET and HEAD, become GET.
#pragma once

#include "base/stop.hpp"
#include "http/message.hpp"
#include "http/proxy.hpp"

#include <chrono>
#include <memory>
#include <string>

namespace cooper::http {

struct ClientOptions {
    std::string user_agent;
    ProxySettings proxies;
    bool offline = false;  // every request is refused before anything is sent (unavailable, Blame::user)
};

// Tries again on connection errors and on 408, 429 and 5xx: after 1, 2, 4 … times first_delay, or what
// Retry-After asks (at most max_delay).
struct RetryPolicy {
    int attempts = 5;
    std::chrono::milliseconds first_delay{250};
    std::chrono::milliseconds max_delay{30'000};
};
inline constexpr RetryPolicy kNoRetry{.attempts = 1};

class Client {
public:
    explicit Client(ClientOptions options);
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;
    ~Client();

    // One exchange. Any status is a success; only what is no HTTP answer is an error
    // (unavailable, Blame::world).
    [[nodiscard]] Result<Response> send(const Request& request, const Stop& stop);
    // As send(), trying again. The last answer is returned when all attempts failed with a status.
    // A body that breaks off while it is read is the reader's to resume.
    [[nodiscard]] Result<Response> send_with_retry(const Request& request, const RetryPolicy& policy, const Stop& stop);

private:
    struct Pool;
    Result<Response> send_once(const Request& request, const Stop& stop);
    ClientOptions options_;
    std::unique_ptr<Pool> pool_;
};

// Whether the same request may do better a little later.
[[nodiscard]] bool is_retryable_status(int status);
[[nodiscard]] bool is_retryable(const Error& error);
// The wait before attempt n+1 (n counts from 1).
[[nodiscard]] std::chrono::milliseconds retry_delay(const RetryPolicy& policy, int attempt, const Headers* answer);
// Sleeps; cancelled when stopped first.
[[nodiscard]] Result<> wait_for(std::chrono::milliseconds delay, const Stop& stop);

}  // namespace cooper::http
