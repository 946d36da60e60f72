#include "daemon/tls_gate.hpp"

#include "base/log.hpp"

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <fmt/format.h>
#include <list>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <span>
#include <string_view>
#include <sys/socket.h>
#include <thread>
#include <utility>

namespace cooper::daemon {

namespace {

constexpr auto kHandshakeTime = std::chrono::seconds(20);
constexpr std::size_t kMaxConnections = 1000;
constexpr std::size_t kBuffer = 64 << 10;

struct FreeContext {
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
struct FreeSession {
    void operator()(SSL* session) const { SSL_free(session); }
};
using Context = std::unique_ptr<SSL_CTX, FreeContext>;
using Session = std::unique_ptr<SSL, FreeSession>;

Error tls_error(const std::string& what) {
    std::array<char, 256> text{};
    ERR_error_string_n(ERR_peek_last_error(), text.data(), text.size());
    ERR_clear_error();
    return bad_input("{}: {}", what, text.data());
}

// HTTP/2 when it is offered; a client that offers nothing means it, too.
int choose_protocol(SSL* /*session*/, const unsigned char** chosen, unsigned char* size, const unsigned char* offered,
                    unsigned int offered_size, void* /*argument*/) {
    std::span<const unsigned char> rest(offered, offered_size);
    while (!rest.empty() && rest.size() > rest.front()) {
        const auto name = rest.subspan(1, rest.front());
        if (std::string_view(reinterpret_cast<const char*>(name.data()), name.size()) == "h2") {
            *chosen = name.data();
            *size = static_cast<unsigned char>(name.size());
            return SSL_TLSEXT_ERR_OK;
        }
        rest = rest.subspan(name.size() + 1);
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

// Bytes on their way.
class Pipe {
public:
    [[nodiscard]] bool empty() const { return from_ == to_; }
    [[nodiscard]] std::span<char> room() {
        from_ = to_ = 0;
        return bytes_;
    }
    void filled(std::size_t count) { to_ = count; }
    [[nodiscard]] std::span<const char> waiting() const { return std::span(bytes_).subspan(from_, to_ - from_); }
    void drained(std::size_t count) { from_ += count; }

private:
    std::array<char, kBuffer> bytes_{};
    std::size_t from_ = 0;
    std::size_t to_ = 0;
};

}  // namespace

struct TlsGate::State {
    Context context;
    struct Open {
        std::list<int> sockets;  // both ends of each connection, to be shut down
        bool closing = false;
    };
    Guarded<Open> open;
    struct Worker {
        std::shared_ptr<std::atomic<bool>> done;
        std::jthread thread;
    };
    Guarded<std::list<Worker>> workers;
};

class TlsGate::Connection {
public:
    Connection(State& state, Session session, sys::Fd client)
        : state_(state), session_(std::move(session)), client_(std::move(client)) {}

    void run(const std::function<void(sys::Fd)>& serve) {
        if (!enter(client_.get())) return;
        if (shake_hands()) {
            std::array<int, 2> ends{};
            if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) == 0) {
                plain_ = sys::Fd(ends[0]);
                sys::Fd served(ends[1]);
                if (enter(plain_.get())) {
                    serve(std::move(served));
                    pass_on();
                    leave(plain_.get());
                }
            }
        }
        leave(client_.get());
    }

private:
    // False when the gate goes.
    bool enter(int socket) {
        auto open = state_.open.lock();
        if (open->closing) return false;
        open->sockets.push_back(socket);
        return true;
    }
    void leave(int socket) { state_.open.lock()->sockets.remove(socket); }

    static bool wait(std::span<struct pollfd> sockets, int milliseconds) {
        const int ready = ::poll(sockets.data(), sockets.size(), milliseconds);
        return ready > 0 || (ready < 0 && errno == EINTR);
    }

    bool shake_hands() {
        const auto deadline = std::chrono::steady_clock::now() + kHandshakeTime;
        while (true) {
            ERR_clear_error();
            const int done = SSL_accept(session_.get());
            if (done == 1) return true;
            const int why = SSL_get_error(session_.get(), done);
            if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) {
                log::info("a client is refused", {{"why", tls_error("TLS").to_string()}});
                return false;
            }
            const auto left =
                std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
            if (left.count() <= 0) return false;
            std::array<struct pollfd, 1> one{
                {{client_.get(), static_cast<short>(why == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT), 0}}};
            if (!wait(one, static_cast<int>(left.count()))) return false;
        }
    }

    // What OpenSSL waits for. False: the connection has ended.
    bool note(int result) {
        switch (SSL_get_error(session_.get(), result)) {
            case SSL_ERROR_WANT_READ:
                client_events_ |= POLLIN;
                return true;
            case SSL_ERROR_WANT_WRITE:
                client_events_ |= POLLOUT;
                return true;
            default:
                return false;
        }
    }

    bool from_client() {
        while (true) {
            if (inward_->empty()) {
                ERR_clear_error();
                const auto room = inward_->room();
                const int got = SSL_read(session_.get(), room.data(), static_cast<int>(room.size()));
                if (got <= 0) return note(got);
                inward_->filled(static_cast<std::size_t>(got));
            }
            const auto waiting = inward_->waiting();
            const ssize_t sent = ::send(plain_.get(), waiting.data(), waiting.size(), MSG_NOSIGNAL);
            if (sent < 0) {
                if (errno != EAGAIN && errno != EINTR) return false;
                plain_events_ |= POLLOUT;
                return true;
            }
            inward_->drained(static_cast<std::size_t>(sent));
        }
    }

    bool to_client() {
        while (true) {
            if (outward_->empty()) {
                const auto room = outward_->room();
                const ssize_t got = ::recv(plain_.get(), room.data(), room.size(), 0);
                if (got == 0) return false;
                if (got < 0) {
                    if (errno != EAGAIN && errno != EINTR) return false;
                    plain_events_ |= POLLIN;
                    return true;
                }
                outward_->filled(static_cast<std::size_t>(got));
            }
            ERR_clear_error();
            const auto waiting = outward_->waiting();
            const int sent = SSL_write(session_.get(), waiting.data(), static_cast<int>(waiting.size()));
            if (sent <= 0) return note(sent);
            outward_->drained(static_cast<std::size_t>(sent));
        }
    }

    void pass_on() {
        while (true) {
            client_events_ = 0;
            plain_events_ = 0;
            if (!from_client() || !to_client()) break;
            std::array<struct pollfd, 2> both{{{client_.get(), client_events_, 0}, {plain_.get(), plain_events_, 0}}};
            if (!wait(both, -1)) break;
        }
        static_cast<void>(SSL_shutdown(session_.get()));
        ::shutdown(plain_.get(), SHUT_RDWR);
    }

    State& state_;
    Session session_;
    sys::Fd client_;
    sys::Fd plain_;
    short client_events_ = 0;
    short plain_events_ = 0;
    std::unique_ptr<Pipe> inward_ = std::make_unique<Pipe>();
    std::unique_ptr<Pipe> outward_ = std::make_unique<Pipe>();
};

TlsGate::TlsGate(std::unique_ptr<State> state) : state_(std::move(state)) {}

Result<std::unique_ptr<TlsGate>> TlsGate::create(const TlsFiles& files) {
    if (files.certificate.empty() || files.key.empty()) return bad_input("TLS needs both --tlscert and --tlskey");
    auto state = std::make_unique<State>();
    state->context.reset(SSL_CTX_new(TLS_server_method()));
    SSL_CTX* context = state->context.get();
    if (context == nullptr) return tls_error("TLS");
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_alpn_select_cb(context, choose_protocol, nullptr);
    if (SSL_CTX_use_certificate_chain_file(context, files.certificate.c_str()) != 1)
        return tls_error("certificate " + files.certificate);
    if (SSL_CTX_use_PrivateKey_file(context, files.key.c_str(), SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(context) != 1) {
        return tls_error("key " + files.key);
    }
    if (!files.client_ca.empty()) {
        if (SSL_CTX_load_verify_locations(context, files.client_ca.c_str(), nullptr) != 1)
            return tls_error("certificate authority " + files.client_ca);
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
        SSL_CTX_set_client_CA_list(context, SSL_load_client_CA_file(files.client_ca.c_str()));
    }
    static constexpr std::string_view kName = "cooperd";
    SSL_CTX_set_session_id_context(context, reinterpret_cast<const unsigned char*>(kName.data()), kName.size());
    return std::unique_ptr<TlsGate>(new TlsGate(std::move(state)));
}

void TlsGate::take(sys::Fd client, std::function<void(sys::Fd)> serve) {
    Session session(SSL_new(state_->context.get()));
    if (session == nullptr || SSL_set_fd(session.get(), client.get()) != 1) return;
    auto workers = state_->workers.lock();
    std::erase_if(*workers, [](const State::Worker& worker) { return worker.done->load(); });
    if (workers->size() >= kMaxConnections) {
        log::warn("a client is refused: there are too many", {});
        return;
    }
    auto connection = std::make_unique<Connection>(*state_, std::move(session), std::move(client));
    auto done = std::make_shared<std::atomic<bool>>(false);
    workers->push_back({done, std::jthread([done, connection = std::move(connection), serve = std::move(serve)] {
                            connection->run(serve);
                            *done = true;
                        })});
}

TlsGate::~TlsGate() {
    {
        auto open = state_->open.lock();
        open->closing = true;
        for (const int socket : open->sockets) ::shutdown(socket, SHUT_RDWR);
    }
    state_->workers.lock()->clear();
}

}  // namespace cooper::daemon
