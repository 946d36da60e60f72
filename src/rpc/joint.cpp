#include "rpc/joint.hpp"

#include "base/log.hpp"

#include <array>
#include <cerrno>
#include <sys/socket.h>
#include <thread>

namespace cooper::rpc {

Result<std::unique_ptr<Joint>> Joint::create(std::unique_ptr<Carrier> carrier) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) return fail_errno(errno, "socket pair");
    auto joint = std::unique_ptr<Joint>(new Joint);
    joint->near_ = sys::Fd(ends[0]);
    joint->far_ = sys::Fd(ends[1]);
    joint->carrier_ = std::move(carrier);
    return joint;
}

void Joint::run() noexcept {
    std::jthread sender([this]() noexcept { send(); });
    receive();
}

void Joint::receive() noexcept {
    while (true) {
        const auto more = carrier_->receive_into(near_.get());
        if (more && *more) continue;
        if (!more) log::debug("tunnel: receiving ended", {{"why", more.error().to_string()}});
        break;
    }
    // A connection of which one half is gone is of no use to HTTP/2, and gRPC may be asleep: do not wait for it.
    ::shutdown(near_.get(), SHUT_RDWR);
}

void Joint::send() noexcept {
    while (true) {
        const auto more = carrier_->send_from(near_.get());
        if (more && *more) continue;
        if (!more) {
            log::debug("tunnel: sending ended", {{"why", more.error().to_string()}});
            carrier_->abort();
        }
        break;
    }
    carrier_->finish_sending();
    ::shutdown(near_.get(), SHUT_RDWR);
}

void Joint::close() noexcept {
    ::shutdown(near_.get(), SHUT_RDWR);
    carrier_->abort();
}

}  // namespace cooper::rpc
