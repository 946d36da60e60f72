#include "handover/loopback_registry.hpp"

#include "base/guarded.hpp"
#include "base/text.hpp"
#include "codec/base64.hpp"
#include "sys/fd.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <functional>
#include <netinet/in.h>
#include <poll.h>
#include <set>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

namespace cooper::handover {
namespace {

constexpr std::size_t kMaxHead = 32 << 10;
constexpr std::size_t kMaxConnections = 32;
constexpr const char* kUser = "cooper";
constexpr const char* kPath = "handed/over";
constexpr const char* kTag = "image";

Result<std::string> random_text() {
    std::array<std::uint8_t, 24> random{};
    if (::getentropy(random.data(), random.size()) != 0) return fail_errno(errno, "random numbers");
    return to_hex(random);
}

bool same_text(std::string_view a, std::string_view b) {
    unsigned different = a.size() == b.size() ? 0 : 1;
    for (std::size_t i = 0; i < std::min(a.size(), b.size()); i++)
        different |= static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b[i]);
    return different == 0;
}

struct Asked {
    bool head = false;  // only that is wanted
    std::string path;
    std::string authorization;
};

class SocketSink final : public ByteSink {
public:
    SocketSink(int fd, std::atomic<std::uint64_t>& count, const Stop& stop) : fd_(fd), count_(count), stop_(stop) {}
    Result<> write(std::span<const std::byte> data) override {
        while (!data.empty()) {
            TRY(check_stop(stop_));
            count_ += data.size();  // before the peer can have it
            const ssize_t n = ::send(fd_, data.data(), data.size(), MSG_NOSIGNAL);
            count_ -= data.size() - static_cast<std::size_t>(std::max<ssize_t>(n, 0));
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) {
                gone_ = true;
                return fail(Code::unavailable, Blame::world, "the engine hung up");
            }
            written_ += static_cast<std::uint64_t>(n);
            data = data.subspan(static_cast<std::size_t>(n));
        }
        return {};
    }
    [[nodiscard]] bool gone() const { return gone_; }
    [[nodiscard]] std::uint64_t written() const { return written_; }

private:
    int fd_;
    std::atomic<std::uint64_t>& count_;
    const Stop& stop_;
    std::uint64_t written_ = 0;
    bool gone_ = false;
};

}  // namespace

struct LoopbackRegistry::State {
    State(exporter::Packer& packer, const exporter::PackedImage& image, const Stop& stop)
        : packer(packer), image(image), stop(stop) {}

    exporter::Packer& packer;
    const exporter::PackedImage& image;
    Stop stop;
    std::string password;
    std::string authorization;  // what a request must say
    sys::Fd listener;
    std::uint16_t port = 0;
    std::atomic<std::uint64_t> bytes = 0;
    Guarded<std::set<Digest>> layers;
    Guarded<std::optional<Error>> failure;
    // A connection whose thread has ended has no socket.
    struct Connection {
        std::shared_ptr<Guarded<sys::Fd>> socket = std::make_shared<Guarded<sys::Fd>>();
        std::jthread thread;
    };
    std::vector<Connection> connections;  // of the accepting thread, and then of the destructor
    std::jthread acceptor;

    void accept_all(const Stop& ending) {
        while (!ending.stop_requested()) {
            sys::Fd socket(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
            if (!socket.valid()) {
                if (ending.stop_requested()) return;
                static_cast<void>(::poll(nullptr, 0, 10));  // no descriptor is left, or the like
                continue;
            }
            std::erase_if(connections, [](Connection& one) { return !one.socket->lock()->valid(); });
            if (connections.size() >= kMaxConnections) continue;
            Connection one;
            const int fd = socket.get();
            *one.socket->lock() = std::move(socket);
            one.thread = std::jthread([this, fd, held = one.socket] {
                while (serve_one(fd)) continue;
                *held->lock() = sys::Fd();
            });
            connections.push_back(std::move(one));
        }
    }

    // nullopt when the peer has gone or speaks something else, TLS for instance.
    static std::optional<Asked> read_request(int fd) {
        std::string head;
        std::array<char, 4096> some{};
        while (head.find("\r\n\r\n") == std::string::npos) {
            const ssize_t n = ::recv(fd, some.data(), some.size(), 0);
            if (n <= 0 || head.size() > kMaxHead) return std::nullopt;
            head.append(some.data(), static_cast<std::size_t>(n));
            if (!head.starts_with("GET ") && !head.starts_with("HEAD ") && head.size() >= 5) return std::nullopt;
        }
        const std::vector<std::string> lines = split(head.substr(0, head.find("\r\n\r\n")), '\n');
        const std::vector<std::string> words = split(trim(lines[0]), ' ');
        if (words.size() != 3) return std::nullopt;
        Asked asked{.head = words[0] == "HEAD", .path = words[1], .authorization = ""};
        for (const auto& line : lines) {
            const auto [name, value] = cut(line, ':');
            if (value && equal_ignoring_case(name, "authorization")) asked.authorization = trim(*value);
        }
        return asked;
    }

    static std::string answer_head(int status, std::string_view reason, std::uint64_t size, std::string_view type,
                                   const std::string& more) {
        return fmt::format(
            "HTTP/1.1 {} {}\r\nDocker-Distribution-Api-Version: registry/2.0\r\nContent-Length: {}\r\n"
            "Content-Type: {}\r\n{}\r\n",
            status, reason, size, type, more);
    }

    // False when the connection is of no further use.
    bool serve_one(int fd) {
        const auto asked = read_request(fd);
        if (!asked) return false;
        std::atomic<std::uint64_t> overhead = 0;
        SocketSink plain(fd, overhead, stop);
        const auto say = [&](int status, std::string_view reason, const std::string& more) {
            const std::string body = asked->head ? "" : "{}";
            const std::string head = answer_head(status, reason, 2, "application/json", more);
            return plain.write(as_bytes(head + body)).has_value();
        };
        if (!same_text(asked->authorization, authorization))
            return say(401, "Unauthorized", "WWW-Authenticate: Basic realm=\"cooper\"\r\n");
        if (asked->path == "/v2/" || asked->path == "/v2") return say(200, "OK", "");
        const std::string under = fmt::format("/v2/{}/", kPath);
        const std::string what = asked->path.starts_with(under) ? asked->path.substr(under.size()) : "";
        SocketSink counted(fd, bytes, stop);
        const auto give = [&](const oci::Descriptor& blob, const std::function<Result<>()>& write) {
            const std::string more = fmt::format("Docker-Content-Digest: {}\r\n", blob.digest.to_string());
            if (!plain.write(as_bytes(answer_head(200, "OK", blob.size, blob.media_type, more)))) return false;
            if (asked->head) return true;
            auto done = write();
            // The peer waits for what was promised.
            if (done && counted.written() != blob.size)
                done = fail(Code::data_loss, Blame::world, "blob {} has {} bytes, not {}", blob.digest.to_string(),
                            counted.written(), blob.size);
            if (!done && !counted.gone()) *failure.lock() = done.error();
            return done.has_value();
        };
        for (const std::string& name : {std::string(kTag), image.manifest.digest.to_string()}) {
            if (what == "manifests/" + name)
                return give(image.manifest, [&] { return counted.write(as_bytes(image.manifest_bytes)); });
        }
        if (what == "blobs/" + image.config.digest.to_string())
            return give(image.config, [&] { return counted.write(as_bytes(image.config_bytes)); });
        for (const auto& layer : image.layers) {
            if (what != "blobs/" + layer.blob.digest.to_string()) continue;
            if (!asked->head) layers.lock()->insert(layer.blob.digest);
            return give(layer.blob, [&] { return packer.write_layer(layer, counted, stop); });
        }
        return say(404, "Not Found", "");
    }
};

Result<std::unique_ptr<LoopbackRegistry>> LoopbackRegistry::start(exporter::Packer& packer,
                                                                  const exporter::PackedImage& image,
                                                                  const Stop& stop) {
    auto state = std::make_unique<State>(packer, image, stop);
    state->password = TRY(random_text());
    state->authorization = "Basic " + codec::base64_encode(fmt::format("{}:{}", kUser, state->password));
    state->listener = sys::Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    if (!state->listener.valid() ||
        ::bind(state->listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(state->listener.get(), static_cast<int>(kMaxConnections)) != 0 ||
        ::getsockname(state->listener.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0)
        return fail_errno(errno, "listen on 127.0.0.1");
    state->port = ntohs(address.sin_port);
    state->acceptor = std::jthread([held = state.get()](const Stop& ending) { held->accept_all(ending); });
    return std::unique_ptr<LoopbackRegistry>(new LoopbackRegistry(std::move(state)));
}

LoopbackRegistry::LoopbackRegistry(std::unique_ptr<State> state) : state_(std::move(state)) {}

LoopbackRegistry::~LoopbackRegistry() {
    state_->acceptor.request_stop();
    ::shutdown(state_->listener.get(), SHUT_RDWR);
    state_->acceptor.join();
    for (auto& one : state_->connections) {
        auto socket = one.socket->lock();
        if (socket->valid()) ::shutdown(socket->get(), SHUT_RDWR);
    }
    state_->connections.clear();
}

std::string LoopbackRegistry::host() const { return fmt::format("127.0.0.1:{}", state_->port); }
std::string LoopbackRegistry::repository() const { return host() + "/" + kPath; }
std::string LoopbackRegistry::reference() const { return repository() + ":" + kTag; }
const std::string& LoopbackRegistry::user() const {
    static const std::string user = kUser;
    return user;
}
const std::string& LoopbackRegistry::password() const { return state_->password; }
LoopbackRegistry::Sent LoopbackRegistry::sent() const {
    return {.layers = state_->layers.lock()->size(), .bytes = state_->bytes};
}
std::optional<Error> LoopbackRegistry::failure() const { return *state_->failure.lock(); }

}  // namespace cooper::handover
