// The language between an executor and cooper-init: what to set up, as a list of records, and the
// messages on the control socket. Both ends are built together; the format is private.
//
// A record is one verb byte, one byte with the number of fields, then each field as a 32-bit length
// (native order) and bytes. The plan lies in a memory file at descriptor kPlanFd.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::run {

constexpr int kControlFd = 3;  // a SOCK_SEQPACKET socket; its end is the order to die
constexpr int kPlanFd = 4;
constexpr int kFirstMountFd = 5;

// The argument of a cooper-init that is not the first of a process namespace.
constexpr const char* kSharedProcesses = "--shared-processes";
// "--try-handlers" ends with 0 when a user namespace may have a binfmt_misc of its own.
// "--register-handlers ROOT LINE…" mounts one at ROOT/proc/sys/fs/binfmt_misc; a hook of the runtime.
constexpr const char* kTryHandlers = "--try-handlers";
constexpr const char* kRegisterHandlers = "--register-handlers";

enum class InitVerb : char {
    mount_tmpfs = 'T',    // path, options
    mount_proc = 'P',     // path
    mount_sys = 'Y',      // path; of the network namespace it is in
    hide = 'H',           // path of a mount to take away, if there
    make_dir = 'D',       // path, octal mode
    make_file = 'F',      // path, octal mode, uid, gid, contents
    attach = 'A',         // descriptor, path
    enter_network = 'N',  // descriptor
    change_dir = 'C',     // path
    console = 'S',        // path of the socket to listen on for the terminal
    join_cgroup = 'J',    // path of a cgroup.procs file the runtime shall write itself to
    thaw_at_end = 'Z',    // path of a freezer.state file of cgroup v1
    runtime_log = 'L',    // path of the file in which the runtime explains its failures
    pid_file = 'I',       // path of the file with the container's first process
    execute = 'X',        // program, argv…
};

class InitPlan {
public:
    void add(InitVerb verb, std::initializer_list<std::string_view> fields) {
        add(verb, std::vector<std::string_view>(fields));
    }
    void add(InitVerb verb, const std::vector<std::string_view>& fields) {
        bytes_ += static_cast<char>(verb);
        bytes_ += static_cast<char>(static_cast<unsigned char>(fields.size()));
        for (const std::string_view field : fields) {
            const auto size = static_cast<std::uint32_t>(field.size());
            bytes_.append(reinterpret_cast<const char*>(&size), sizeof size);
            bytes_ += field;
        }
    }
    [[nodiscard]] const std::string& bytes() const { return bytes_; }

private:
    std::string bytes_;
};

struct InitRecord {
    InitVerb verb{};
    std::vector<std::string> fields;
};
// Takes one record off the front; nullopt at the end or when cut short.
inline std::optional<InitRecord> take_record(std::string_view& bytes) {
    if (bytes.size() < 2) return std::nullopt;
    InitRecord record;
    record.verb = static_cast<InitVerb>(bytes[0]);
    const auto count = static_cast<unsigned char>(bytes[1]);
    bytes.remove_prefix(2);
    for (unsigned i = 0; i < count; i++) {
        std::uint32_t size = 0;
        if (bytes.size() < sizeof size) return std::nullopt;
        std::memcpy(&size, bytes.data(), sizeof size);
        bytes.remove_prefix(sizeof size);
        if (bytes.size() < size) return std::nullopt;
        record.fields.emplace_back(bytes.substr(0, size));
        bytes.remove_prefix(size);
    }
    return record;
}

// Messages from cooper-init: one letter, then text.
constexpr char kStarted = 'S';   // the runtime has been started
constexpr char kTerminal = 'M';  // with the master of the pty attached
constexpr char kExited = 'E';    // "CODE\0" and what the runtime wrote to its log
constexpr char kFailed = 'F';    // the set-up failed: "what: why"
// Message to cooper-init: 'K' and the number of a signal for the container's first process.
constexpr char kSignal = 'K';

}  // namespace cooper::run
