// The cgroup of one step: made by us in whatever layout the host has (v2, v1, hybrid, none), so that
// memory kills are seen and devices are out of reach. Runtimes are told to keep off.
// https://docs.kernel.org/admin-guide/cgroup-v2.html, cgroup-v1/{memory,devices}.html
#pragma once

#include "base/guarded.hpp"
#include "base/result.hpp"
#include "run/device.hpp"
#include "run/executor.hpp"
#include "sys/fd.hpp"

#include <memory>
#include <span>
#include <string>
#include <vector>

namespace cooper::run {

enum class DeviceRule : std::uint8_t { standard, all };

struct CgroupWishes {
    DeviceRule devices = DeviceRule::standard;
    std::span<const DeviceNode> further_devices;
    Resources resources;
    bool freezer = false;
};

// Holds the processes of a cgroup up where they are. Any thread.
class Freezer {
public:
    Freezer() = default;
    enum class Version : std::uint8_t { v1, v2 };
    // dir: of the cgroup; nothing happens when it is empty.
    Freezer(std::string dir, Version version) : dir_(std::move(dir)), version_(version) {}
    // Whether this host has one.
    [[nodiscard]] bool works() const { return !dir_.empty(); }
    void freeze();
    void thaw();
    // Before their namespace is killed: what is held up does not run once more. Frozen processes of v1 end only when
    // they are thawed, so they are killed here first.
    void kill();
    // They have ended.
    void end() { *ended_.lock() = true; }

private:
    void write(bool frozen);
    std::string dir_;
    Version version_ = Version::v2;
    Guarded<bool> ended_;
};

// Owned by one step. The destructor removes the directories; the processes must have ended.
class Cgroup {
public:
    Cgroup() = default;
    Cgroup(Cgroup&&) noexcept = default;
    Cgroup& operator=(Cgroup&&) noexcept = default;
    ~Cgroup();

    // The cgroup.procs files a process must be written to.
    [[nodiscard]] const std::vector<std::string>& procs_files() const { return procs_files_; }
    // Whether opening devices other than the harmless ones is prevented.
    [[nodiscard]] bool guards_devices() const { return guards_devices_; }
    // A limit that this host cannot keep is an error that names it.
    [[nodiscard]] Result<> limit(const Resources& resources) const;
    [[nodiscard]] bool oom_killed() const;
    [[nodiscard]] Usage usage() const;
    [[nodiscard]] std::unique_ptr<Freezer> freezer() const;
    // Of v1: what cooper-init thaws when cooper is gone. Empty where SIGKILL is enough.
    [[nodiscard]] std::string thaw_file() const;

private:
    friend class CgroupTree;
    std::vector<std::string> dirs_;
    std::vector<sys::Fd> held_;  // the directories, locked: a sweep leaves them
    std::vector<std::string> procs_files_;
    std::string memory_dir_;
    std::string cpu_dir_;
    std::string cpuset_dir_;
    std::string freezer_dir_;
    bool freezer_is_v2_ = false;
    bool memory_is_v2_ = false;
    bool guards_devices_ = false;
};

// Where cgroups can be made on this host. Detected once; a value.
class CgroupTree {
public:
    // parent: where our cgroups go, absolute in the hierarchy; empty = "/cooper".
    [[nodiscard]] static CgroupTree detect(std::string parent);

    // name: like no other's on this host, also of programs in other process namespaces, that see the same cgroups.
    // Never fails: what cannot be made is left out (see Cgroup::guards_devices); Cgroup::limit tells what
    // is missing. parent overrides the tree's when not empty.
    [[nodiscard]] Cgroup create(const std::string& parent, const std::string& name, const CgroupWishes& wishes) const;
    // Removes what killed programs have left behind: what no Cgroup holds, whatever process namespace it lives in.
    void sweep() const;
    // "v2", "v1", "hybrid" or "none".
    [[nodiscard]] std::string describe() const;
    // A cgroup2 mount beside v1 ones: crun refuses to work when it sees that.
    [[nodiscard]] const std::string& hybrid_mount() const { return hybrid_mount_; }

private:
    struct Place {
        std::string mount;   // where the hierarchy is mounted
        std::string prefix;  // below it, this process's own cgroup (v1) or nothing (v2)
    };
    void add_v2(Cgroup& cgroup, const std::string& relative, const CgroupWishes& wishes) const;
    // Whether it could be made. It is the cgroup's from then on.
    static bool add_dir(Cgroup& cgroup, const std::string& path);
    // The directory; empty when it could not be made.
    std::string add_v1(Cgroup& cgroup, const Place& place, const std::string& relative) const;

    Place v2_;
    Place memory_;
    Place devices_;
    Place cpu_;
    Place cpuset_;
    Place freezer_;
    std::string hybrid_mount_;
    std::string parent_;
};

}  // namespace cooper::run
