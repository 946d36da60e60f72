// Emulators: how programs for other machines run on this one, through the kernel's binfmt_misc and qemu's user mode
// emulators. In this order:
//
// 1. The host has a handler that holds its emulator open (flag F): nothing is needed.
// 2. It has a handler that names a static emulator: the step sees that file, read only, at that path.
// 3. The kernel lets a user namespace have handlers of its own (6.7): the step runs in one, with those of the static
//    emulators found here. The emulators are opened in advance, so the step's root has nothing of them.
//
// https://docs.kernel.org/admin-guide/binfmt-misc.html
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::run {

// A line of binfmt_misc, as its file tells it.
struct BinaryHandler {
    std::string interpreter;
    bool opened = false;     // flag F
    std::size_t offset = 0;  // of magic in the program
    std::string magic;
    std::string mask;  // empty = all bits count

    // Whether it takes programs for this architecture ("arm64").
    [[nodiscard]] bool takes(std::string_view architecture) const;
};
// The text of /proc/sys/fs/binfmt_misc/NAME; nothing when it is disabled or goes by the name of the file.
[[nodiscard]] std::optional<BinaryHandler> parse_binary_handler(std::string_view text);

// What one step needs. Both empty: nothing, or nothing that we could give.
struct Emulation {
    std::string bound;                       // a file of the host that the step must see at this very path
    std::vector<std::string> registrations;  // lines for a binfmt_misc of the step's own
};

struct Machine;

// Thread-safe.
class Emulators {
public:
    // init_program tries out what the kernel allows. can_make_namespaces: the runtime can start a step in a user
    // namespace of its own while its cgroups are made by others (crun can). directory: where emulators are; empty =
    // PATH, "none" = nowhere.
    Emulators(std::string init_program, bool can_make_namespaces, std::string directory)
        : init_program_(std::move(init_program)), directory_(std::move(directory)) {
        if (!can_make_namespaces) own_handlers_work_ = false;
    }

    // architecture: of the step's programs, by its name in platforms. Nothing for this machine's.
    // too_late: the mounts of the step are made already.
    enum class Binding : std::uint8_t { possible, too_late };
    [[nodiscard]] Emulation for_step(std::string_view architecture, Binding binding);
    // Those whose programs run here beside this machine's.
    [[nodiscard]] std::vector<std::string> architectures();
    // Whether anything takes such programs, be it a handler of the host whose emulator only the image may have.
    [[nodiscard]] bool may_run(std::string_view architecture);
    // The emulator that a handler of the host names although no step can be given it: it is not there, or needs other
    // files. Such programs then end as if they were not there.
    [[nodiscard]] std::optional<std::string> useless_emulator(std::string_view architecture);

private:
    bool own_handlers_work();
    [[nodiscard]] std::optional<std::string> find(const Machine& machine) const;

    const std::string init_program_;
    const std::string directory_;
    std::mutex mutex_;
    std::optional<bool> own_handlers_work_;  // once known
};

}  // namespace cooper::run
