// ProcessSpec: what to run in which root, as data. Knows nothing of builds; paths named "host" are
// paths of the host, all others are paths inside the container's root.
#pragma once

#include "run/device.hpp"
#include "sys/mount.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <sys/types.h>
#include <variant>
#include <vector>

namespace cooper::run {

enum class NetworkMode : std::uint8_t { isolated, none, host };  // isolated = own namespace, NAT to the world
enum class SecurityMode : std::uint8_t { sandbox, insecure };
enum class Access : std::uint8_t { read_only, read_write };
enum class StdinMode : std::uint8_t { empty, forward };  // empty: reads give end of file at once

// A tree that exists on the host.
struct HostTree {
    std::string host_path;
};
using Tree = std::variant<HostTree, sys::OverlayPlan>;

// A directory, file or socket of a tree. subpath is resolved inside the tree and cannot leave it.
struct BindMount {
    Tree tree;
    std::string subpath;  // empty or "/" = all of it
    std::string target;
    Access access = Access::read_only;
    std::vector<std::string> options;  // further ones: nosuid, noexec, …
};
struct TmpfsMount {
    std::string target;
    std::uint64_t size_bytes = 0;  // 0 = the kernel's default
    Access access = Access::read_write;
};
// A file with contents that never touches a disk: secrets.
struct FileMount {
    std::string contents;
    std::string target;
    std::uint32_t mode = 0400;
    uid_t uid = 0;
    gid_t gid = 0;
};
// Sorted by target before mounting; of two with one target the later wins.
using ExtraMount = std::variant<BindMount, TmpfsMount, FileMount>;

struct ExtraHost {
    std::string name;
    std::string address;  // "host-gateway" = where this network has the host
};
struct Ulimit {
    std::string name;  // "nofile"
    std::int64_t soft = 0;
    std::int64_t hard = 0;  // -1 = unlimited
};
struct PublishedPort {
    std::string host_address;     // empty = all
    std::uint16_t host_port = 0;  // 0 = the kernel chooses; see Running::published
    std::uint16_t container_port = 0;
    enum class Protocol : std::uint8_t { tcp, udp } protocol = Protocol::tcp;
};

struct ProcessSpec {
    std::vector<std::string> args;
    std::vector<std::string> env;  // "K=V"; of duplicates the later wins; PATH is added when unset
    std::string user;              // "name|uid[:group|gid]", empty = 0:0
    std::string cwd = "/";         // absolute; made (0755, the user's) when missing
    Tree root;
    Access root_access = Access::read_write;
    std::vector<ExtraMount> mounts;
    NetworkMode network = NetworkMode::isolated;
    SecurityMode security = SecurityMode::sandbox;
    std::vector<ExtraHost> extra_hosts;
    std::string hostname;  // empty = "buildkitsandbox"
    std::vector<Ulimit> ulimits;
    Resources resources;
    std::vector<DeviceNode> devices;  // beside those that every container has
    std::vector<Hook> hooks;
    std::vector<gid_t> extra_groups;   // beside those of the user
    std::string cgroup_parent;         // empty = the executor's
    std::uint64_t shm_size_bytes = 0;  // 0 = 64 MiB
    std::string architecture;          // of the programs, as in platforms; empty = this machine's
    bool tty = false;
    bool disk_watched = false;  // Control::pause will be asked for; large reservations of disk are refused
    StdinMode stdin_mode = StdinMode::empty;
    std::vector<PublishedPort> ports;  // isolated network only
};

[[nodiscard]] inline std::string hostname_of(const ProcessSpec& spec) {
    return spec.hostname.empty() ? "buildkitsandbox" : spec.hostname;
}

}  // namespace cooper::run
