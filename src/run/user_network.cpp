#include "run/network.hpp"
#include "sys/namespaces.hpp"
#include "sys/process.hpp"

#include <fcntl.h>
#include <poll.h>

namespace cooper::run {
namespace {

// What both programs give the container by default, and slirp4netns's built-in name server.
constexpr const char* kSlirpAddress = "10.0.2.100";
constexpr const char* kSlirpNameServer = "10.0.2.3";

class UserLease final : public NetworkLease {
public:
    UserLease(sys::Fd fd, sys::Child program, bool slirp)
        : program_(std::move(program)), fd_(std::move(fd)), slirp_(slirp) {}
    int namespace_fd() const override { return fd_.get(); }
    std::vector<std::string> name_servers() const override {
        return slirp_ ? std::vector<std::string>{kSlirpNameServer} : std::vector<std::string>{};
    }
    std::string address() const override { return slirp_ ? kSlirpAddress : ""; }
    std::string host_address() const override { return {}; }  // its loopback is closed off
    void spoil() override {}

private:
    sys::Child program_;  // killed with the lease, and with this program
    sys::Fd fd_;
    bool slirp_;
};

class UserNetwork final : public Network {
public:
    explicit UserNetwork(std::string program) : program_(std::move(program)) {}

    Result<std::unique_ptr<NetworkLease>> acquire(const Stop& stop) override {
        sys::Fd fd = TRY(sys::make_network_namespace());
        const bool slirp = program_.find("slirp4netns") != std::string::npos;
        sys::Pipe ready = TRY(sys::make_pipe());
        sys::SpawnSpec spec;
        spec.program = program_;
        spec.parent_death = sys::SpawnSpec::ParentDeath::kill;
        spec.fds = {{3, fd.get()}, {4, ready.write_end.get()}};
        if (slirp) {
            spec.args = {"slirp4netns",  "--configure",       "--mtu=65520",     "--disable-host-loopback",
                         "--ready-fd=4", "--netns-type=path", "/proc/self/fd/3", "tap0"};
        } else {
            spec.args = {"pasta", "--config-net", "--foreground", "--quiet", "-t",   "none",    "-u",
                         "none",  "-T",           "none",         "-U",      "none", "--netns", "/proc/self/fd/3"};
        }
        sys::Child child = TRY(sys::Child::spawn(spec));
        ready.write_end = sys::Fd();
        if (slirp) {
            TRY(sys::wait_readable(ready.read_end.get(), stop));
            std::byte one{};
            const std::size_t n = TRY(sys::read_some(ready.read_end.get(), {&one, 1}));
            if (n == 0) {
                return fail(Code::failed_precondition, Blame::world, "slirp4netns could not set up the network")
                    .with_hint("is /dev/net/tun there? --network=host or --network=none work without");
            }
        } else {
            TRY(wait_for_interface(fd.get(), child, stop));
        }
        return std::unique_ptr<NetworkLease>(std::make_unique<UserLease>(std::move(fd), std::move(child), slirp));
    }
    void warm_up() override {}
    std::string describe() const override { return program_.substr(program_.rfind('/') + 1); }

private:
    // pasta says nothing when it is ready: it has then added a default route.
    static Result<> wait_for_interface(int namespace_fd, const sys::Child& child, const Stop& stop) {
        for (int tries = 0; tries < 2500; tries++) {
            TRY(check_stop(stop));
            bool has_route = false;
            TRY(sys::in_network_namespace(namespace_fd, [&has_route]() -> Result<> {
                const sys::Fd routes(::open("/proc/thread-self/net/route", O_RDONLY | O_CLOEXEC));
                if (!routes.valid()) return fail_errno(errno, "read routes");
                has_route = TRY(sys::read_to_end(routes.get(), 1 << 20)).find("\t00000000\t") != std::string::npos;
                return {};
            }));
            if (has_route) return {};
            pollfd ended{child.pidfd(), POLLIN, 0};
            if (::poll(&ended, 1, 2) > 0) break;
        }
        return fail(Code::failed_precondition, Blame::world, "pasta could not set up the network")
            .with_hint("--network=host or --network=none work without");
    }

    std::string program_;
};

}  // namespace

std::unique_ptr<Network> make_user_network(std::string program) {
    return std::make_unique<UserNetwork>(std::move(program));
}

}  // namespace cooper::run
