#include "http/fake_server.hpp"

#include "base/guarded.hpp"
#include "base/text.hpp"
#include "sys/fd.hpp"

#include <arpa/inet.h>
#include <cstring>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>

namespace cooper::http {
namespace {

// What has come in on a connection and was not used yet.
class Inbox {
public:
    explicit Inbox(int fd) : fd_(fd) {}

    bool line(std::string& out) {
        for (;;) {
            if (const std::size_t end = data_.find('\n'); end != std::string::npos) {
                out = trim(std::string_view(data_).substr(0, end));
                data_.erase(0, end + 1);
                return true;
            }
            if (!more()) return false;
        }
    }
    bool take(std::size_t n, std::string& out) {
        while (data_.size() < n) {
            if (!more()) return false;
        }
        out += data_.substr(0, n);
        data_.erase(0, n);
        return true;
    }

private:
    bool more() {
        char chunk[65536];
        const ssize_t n = recv(fd_, chunk, sizeof chunk, 0);
        if (n <= 0) return false;
        data_.append(chunk, static_cast<std::size_t>(n));
        return true;
    }
    int fd_;
    std::string data_;
};

bool send_all(int fd, std::string_view data) {
    while (!data.empty()) {
        const ssize_t n = ::send(fd, data.data(), data.size(), MSG_NOSIGNAL);
        if (n <= 0) return false;
        data.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
}

bool read_chunked(Inbox& inbox, std::string& body) {
    for (;;) {
        std::string line;
        if (!inbox.line(line)) return false;
        const std::size_t n = std::strtoul(line.c_str(), nullptr, 16);
        if (n == 0) return inbox.line(line);
        if (!inbox.take(n, body) || !inbox.line(line)) return false;
    }
}

bool read_request(Inbox& inbox, FakeRequest& request) {
    std::string line;
    if (!inbox.line(line)) return false;
    const std::vector<std::string> words = split(line, ' ');
    if (words.size() < 2) return false;
    request.method = words[0];
    request.target = words[1];
    while (inbox.line(line) && !line.empty()) {
        const auto [name, value] = cut(line, ':');
        request.headers.add(std::string(name), std::string(trim(value.value_or(""))));
    }
    if (request.headers.find("Transfer-Encoding") == "chunked") return read_chunked(inbox, request.body);
    const auto length = parse_int(request.headers.find("Content-Length").value_or("0"));
    return length && inbox.take(static_cast<std::size_t>(*length), request.body);
}

}  // namespace

struct FakeServer::State {
    Handler handler;
    sys::Fd listener;
    std::string socket_path;
    std::uint16_t port = 0;
    Guarded<std::vector<FakeRequest>> requests;
    // The sockets of living connections, so that the destructor can end their waits.
    Guarded<std::vector<int>> open;
    Guarded<std::vector<std::jthread>> connections;
    std::jthread acceptor;

    void accept_loop(const Stop& stop) {
        while (!stop.stop_requested()) {
            const int fd = accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC);
            if (fd < 0) return;
            open.lock()->push_back(fd);
            connections.lock()->emplace_back([this, fd] { serve(sys::Fd(fd)); });
        }
    }

    void serve(sys::Fd connection) {
        Inbox inbox(connection.get());
        FakeRequest request;
        while (read_request(inbox, request)) {
            requests.lock()->push_back(request);
            if (!answer(connection.get(), request.method, handler(request))) break;
            request = FakeRequest();
        }
        auto list = open.lock();
        std::erase(*list, connection.get());
    }

    static bool answer(int fd, const std::string& method, const FakeResponse& response) {
        if (response.drop) return false;
        std::string head = fmt::format("HTTP/1.1 {} Answer\r\n", response.status);
        for (const auto& [name, value] : response.headers.all()) head += name + ": " + value + "\r\n";
        if (!response.headers.find("Content-Length") && response.status != 204 && response.status != 304) {
            head += fmt::format("Content-Length: {}\r\n", response.body.size());
        }
        if (!send_all(fd, head + "\r\n")) return false;
        if (method == "HEAD") return true;
        const std::string_view body = response.body;
        if (!send_all(fd, body.substr(0, response.cut_after.value_or(body.size())))) return false;
        if (response.hang) {
            char byte = 0;
            while (recv(fd, &byte, 1, 0) > 0) continue;
        }
        return !response.cut_after && !response.hang;
    }
};

FakeServer::FakeServer(Handler handler) : state_(std::make_unique<State>()) {
    state_->handler = std::move(handler);
    state_->listener = sys::Fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(bind(state_->listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    CHECK(listen(state_->listener.get(), 64) == 0);
    socklen_t length = sizeof address;
    CHECK(getsockname(state_->listener.get(), reinterpret_cast<sockaddr*>(&address), &length) == 0);
    state_->port = ntohs(address.sin_port);
    state_->acceptor = std::jthread([state = state_.get()](const Stop& stop) { state->accept_loop(stop); });
}

FakeServer::FakeServer(Handler handler, const std::string& socket_path) : state_(std::make_unique<State>()) {
    state_->handler = std::move(handler);
    state_->socket_path = socket_path;
    state_->listener = sys::Fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    CHECK(socket_path.size() < sizeof address.sun_path);
    std::memcpy(address.sun_path, socket_path.data(), socket_path.size());
    CHECK(bind(state_->listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    CHECK(listen(state_->listener.get(), 64) == 0);
    state_->acceptor = std::jthread([state = state_.get()](const Stop& stop) { state->accept_loop(stop); });
}

FakeServer::~FakeServer() {
    state_->acceptor.request_stop();
    shutdown(state_->listener.get(), SHUT_RDWR);
    state_->acceptor.join();
    {
        auto open = state_->open.lock();
        for (const int fd : *open) shutdown(fd, SHUT_RDWR);
    }
    std::vector<std::jthread> connections;
    connections.swap(*state_->connections.lock());
    connections.clear();
    if (!state_->socket_path.empty()) unlink(state_->socket_path.c_str());
}

std::string FakeServer::host() const { return fmt::format("127.0.0.1:{}", state_->port); }
std::string FakeServer::url() const { return "http://" + host(); }
std::vector<FakeRequest> FakeServer::requests() const { return *state_->requests.lock(); }

std::size_t FakeServer::count(const std::string& method, const std::string& target) const {
    std::size_t n = 0;
    auto requests = state_->requests.lock();
    for (const FakeRequest& request : *requests) {
        if (request.method == method && request.target == target) ++n;
    }
    return n;
}

}  // namespace cooper::http
