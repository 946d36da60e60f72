#include "run/namespace_pool.hpp"
#include "run/network.hpp"
#include "sys/namespaces.hpp"

namespace cooper::run {
namespace {

using Pool = NamespacePool<sys::Fd>;

class NoneLease final : public NetworkLease {
public:
    NoneLease(Pool& pool, sys::Fd fd) : pool_(pool), fd_(std::move(fd)) {}
    ~NoneLease() override {
        if (!spoilt_) pool_.give_back(std::move(fd_));
    }
    int namespace_fd() const override { return fd_.get(); }
    std::vector<std::string> name_servers() const override { return {}; }
    std::string address() const override { return {}; }
    std::string host_address() const override { return {}; }
    void spoil() override { spoilt_ = true; }

private:
    Pool& pool_;
    sys::Fd fd_;
    bool spoilt_ = false;
};

class NoneNetwork final : public Network {
public:
    NoneNetwork() : pool_([](const Stop&) { return sys::make_network_namespace(); }) {}
    Result<std::unique_ptr<NetworkLease>> acquire(const Stop& stop) override {
        sys::Fd fd = TRY(pool_.take(stop));
        return std::unique_ptr<NetworkLease>(std::make_unique<NoneLease>(pool_, std::move(fd)));
    }
    void warm_up() override { pool_.warm_up(); }
    std::string describe() const override { return "none"; }

private:
    Pool pool_;
};

class MissingNetwork final : public Network {
public:
    Result<std::unique_ptr<NetworkLease>> acquire(const Stop& /*stop*/) override {
        return fail(Code::failed_precondition, Blame::world, "no network provider for steps")
            .with_hint(
                "run as root with nft or iptables installed, or install slirp4netns or passt; or use "
                "--network=none or --network=host");
    }
    void warm_up() override {}
    std::string describe() const override { return "missing"; }
};

class HostNetwork final : public Network {
public:
    Result<std::unique_ptr<NetworkLease>> acquire(const Stop& /*stop*/) override {
        return std::unique_ptr<NetworkLease>();
    }
    void warm_up() override {}
    std::string describe() const override { return "host"; }
};

}  // namespace

std::unique_ptr<Network> make_none_network() { return std::make_unique<NoneNetwork>(); }
std::unique_ptr<Network> make_host_network() { return std::make_unique<HostNetwork>(); }

std::unique_ptr<Network> make_missing_network() { return std::make_unique<MissingNetwork>(); }

}  // namespace cooper::run
