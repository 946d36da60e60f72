// CDI: devices that files on this machine describe, known by qualified names ("vendor.com/class=name").
// https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md
//
// Only files in JSON are read. A file that is wrong is left out; why is told when a device is missed.
// Values: read again for every build that asks, since drivers come and go. Any thread.
#pragma once

#include "base/result.hpp"
#include "run/device.hpp"

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::run {

struct CdiMount {
    std::string host_path;
    std::string target;
    bool read_only = false;
    std::vector<std::string> options;  // nosuid, noexec, …
    friend bool operator==(const CdiMount&, const CdiMount&) = default;
};

// What a container gets for its devices.
struct DeviceEdits {
    std::vector<std::string> env;
    std::vector<DeviceNode> nodes;
    std::vector<CdiMount> mounts;
    std::vector<Hook> hooks;
    std::vector<gid_t> groups;
    friend bool operator==(const DeviceEdits&, const DeviceEdits&) = default;
};

class CdiDevices {
public:
    // Directories that are not there are no error. Of two devices of one name that of the later directory
    // wins; within one directory neither does.
    [[nodiscard]] static CdiDevices load(const std::vector<std::string>& dirs);

    [[nodiscard]] std::vector<std::string> names() const;  // qualified, sorted
    // What a Dockerfile may write: a qualified name, "vendor/class" for the first of a kind, "vendor/class=*"
    // for all, "vendor/class=GROUP" for those with that class annotation. Empty: there is none.
    [[nodiscard]] Result<std::vector<std::string>> find(std::string_view wanted) const;
    // The description says that it may be used without asking.
    [[nodiscard]] bool allows_itself(const std::string& name) const;
    // Bad input names the file.
    [[nodiscard]] Result<DeviceEdits> edits(const std::vector<std::string>& names) const;
    // Why something may be missing: "FILE: what is wrong".
    [[nodiscard]] const std::vector<std::string>& problems() const { return problems_; }

    struct Spec;
    struct Device;

private:
    void read_dir(const std::string& dir);
    std::map<std::string, std::shared_ptr<const Device>> devices_;
    std::vector<std::string> problems_;
};

}  // namespace cooper::run
