#include "sys/namespaces.hpp"

#include "base/text.hpp"
#include "sys/process.hpp"
#include "sys/rooted_dir.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <linux/capability.h>
#include <net/if.h>
#include <optional>
#include <pwd.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

namespace cooper::sys {
namespace {

Result<std::string> read_small_file(const std::string& path) {
    const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid()) return fail_errno(errno, fmt::format("open {}", path));
    return read_to_end(fd.get(), 1 << 20);
}

struct SubordinateIds {
    std::int64_t first = 0;
    std::int64_t count = 0;
};

// The user's line in /etc/subuid or /etc/subgid: "name-or-uid:first:count".
std::optional<SubordinateIds> find_subordinate_ids(const std::string& path, std::string_view user, uid_t uid) {
    const auto text = read_small_file(path);
    if (!text) return std::nullopt;
    for (const std::string& line : split(*text, '\n')) {
        const std::vector<std::string> parts = split(line, ':');
        if (parts.size() != 3 || (parts[0] != user && parts[0] != std::to_string(uid))) continue;
        const auto first = parse_int(parts[1]);
        const auto count = parse_int(parts[2]);
        if (first && count && *count > 0) return SubordinateIds{*first, *count};
    }
    return std::nullopt;
}

Result<> bring_up_loopback() {
    const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!socket.valid()) return fail_errno(errno, "socket");
    ifreq request{};
    std::strncpy(request.ifr_name, "lo", IFNAMSIZ - 1);
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    if (::ioctl(socket.get(), SIOCSIFFLAGS, &request) != 0) return fail_errno(errno, "bring up loopback");
    return {};
}

Result<Fd> unshare_network_here() {
    if (::unshare(CLONE_NEWNET) != 0) {
        return fail_errno(errno, "make a network namespace")
            .with_hint("needs root, or a user namespace; --network=host works without");
    }
    TRY(bring_up_loopback());
    Fd fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    if (!fd.valid()) return fail_errno(errno, "open the network namespace");
    return fd;
}

}  // namespace

Result<> enter_private_mount_namespace() {
    if (::unshare(CLONE_NEWNS) != 0) {
        return fail_errno(errno, "make a mount namespace").with_hint("run as root, or as a user with subordinate ids");
    }
    // Slave, not private: what the host mounts later (a USB disk with a build context) stays visible.
    if (::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0) {
        return fail_errno(errno, "make mounts private");
    }
    return {};
}

std::uint64_t permitted_capabilities() {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> data{};
    if (::syscall(SYS_capget, &header, data.data()) != 0) return 0;
    return static_cast<std::uint64_t>(data[1].permitted) << 32 | data[0].permitted;
}

bool can_mount() { return (permitted_capabilities() >> CAP_SYS_ADMIN & 1) != 0; }

bool in_user_namespace() {
    const auto map = read_small_file("/proc/self/uid_map");
    if (!map) return false;
    std::vector<std::string> numbers;
    for (std::string& word : split(trim(*map), ' ')) {
        if (!word.empty()) numbers.push_back(std::move(word));
    }
    return numbers != std::vector<std::string>{"0", "0", "4294967295"};
}

Result<> enter_user_namespace(const Stop& stop) {
    const uid_t uid = ::geteuid();
    const gid_t gid = ::getegid();
    if (uid == 0) return {};
    const passwd* entry = ::getpwuid(uid);
    const std::string user = entry != nullptr ? entry->pw_name : std::to_string(uid);
    const auto uids = find_subordinate_ids("/etc/subuid", user, uid);
    const auto gids = find_subordinate_ids("/etc/subgid", user, uid);
    const auto refuse = [&user](std::string_view what) {
        return fail(Code::failed_precondition, Blame::world, "cannot run as {} without root: {}", user, what)
            .with_hint(fmt::format(
                "run as root, or install uidmap and add \"{}:100000:65536\" to /etc/subuid and /etc/subgid", user));
    };
    if (!uids || !gids) return refuse("no subordinate ids in /etc/subuid and /etc/subgid");
    const auto newuidmap = find_program("newuidmap");
    const auto newgidmap = find_program("newgidmap");
    if (!newuidmap || !newgidmap) return refuse("newuidmap is not installed");

    // The mapper must stay outside: a shell that waits until we are inside, then maps us.
    Pipe go = TRY(make_pipe());
    SpawnSpec mapper;
    mapper.program = "/bin/sh";
    mapper.args = {"sh", "-c",
                   fmt::format("read -r go && {0} {2} 0 {3} 1 1 {4} {5} && {1} {2} 0 {6} 1 1 {7} {8}", *newuidmap,
                               *newgidmap, ::getpid(), uid, uids->first, uids->count, gid, gids->first, gids->count)};
    mapper.fds = {{0, go.read_end.get()}, {2, 2}};
    Child child = TRY(Child::spawn(mapper));
    if (::unshare(CLONE_NEWUSER) != 0) {
        return fail_errno(errno, "make a user namespace")
            .with_hint(
                "user namespaces may be switched off: sysctl user.max_user_namespaces, "
                "kernel.unprivileged_userns_clone");
    }
    TRY(write_all(go.write_end.get(), "go\n"));
    const ExitStatus status = TRY(child.wait(stop));
    if (status.code != 0) return refuse("newuidmap failed");
    if (::setresgid(0, 0, 0) != 0 || ::setresuid(0, 0, 0) != 0) return fail_errno(errno, "become uid 0");
    return {};
}

Result<Fd> make_network_namespace() {
    Result<Fd> made;
    // A namespace belongs to a thread; one of its own leaves the caller where it is.
    std::thread([&made]() noexcept { made = unshare_network_here(); }).join();
    return made;
}

Result<> in_network_namespace(int namespace_fd, const std::function<Result<>()>& work) {
    Result<> done;
    std::thread([&]() noexcept {
        if (::setns(namespace_fd, CLONE_NEWNET) != 0) {
            done = fail_errno(errno, "enter a network namespace");
        } else {
            done = work();
        }
    }).join();
    return done;
}

}  // namespace cooper::sys
