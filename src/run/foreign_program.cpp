#include "run/foreign_program.hpp"

#include "base/text.hpp"
#include "run/machine.hpp"
#include "run/runtime_config.hpp"

#include <algorithm>
#include <array>
#include <elf.h>
#include <fcntl.h>
#include <string_view>
#include <unistd.h>
#include <vector>

namespace cooper::run {
namespace {

#if defined(__x86_64__)
constexpr std::array<std::string_view, 2> kOwn{"amd64", "386"};
#elif defined(__aarch64__)
constexpr std::array<std::string_view, 1> kOwn{"arm64"};
#elif defined(__riscv)
constexpr std::array<std::string_view, 1> kOwn{"riscv64"};
#elif defined(__s390x__)
constexpr std::array<std::string_view, 1> kOwn{"s390x"};
#else
constexpr std::array<std::string_view, 1> kOwn{"ppc64le"};
#endif

// The file's first bytes; empty when there is no such file that may be executed.
std::string head_of(const sys::RootedDir& root, const std::string& path) {
    // A FIFO of the image must not hold us up.
    const auto file = root.open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC, sys::Follow::yes, 0);
    if (!file) return {};
    std::array<char, 256> bytes{};
    const ssize_t n = ::read(file->get(), bytes.data(), bytes.size());
    return n > 0 ? std::string(bytes.data(), static_cast<std::size_t>(n)) : std::string();
}

std::string head_of_program(const sys::RootedDir& root, const ProcessSpec& spec) {
    const std::string& program = spec.args.front();
    if (program.find('/') != std::string::npos)
        return head_of(root, program.starts_with('/') ? program : spec.cwd + "/" + program);
    for (const std::string& entry : effective_env(spec)) {
        if (!entry.starts_with("PATH=")) continue;
        for (const std::string& dir : split(entry.substr(5), ':')) {
            std::string head = head_of(root, dir + "/" + program);
            if (!head.empty()) return head;
        }
    }
    return {};
}

std::optional<std::string> architecture_of(std::string_view head) {
    if (head.size() < 20 || !head.starts_with(std::string_view(ELFMAG, SELFMAG))) return std::nullopt;
    const auto byte = [head](std::size_t at) { return static_cast<unsigned char>(head[at]); };
    const bool big = byte(EI_DATA) == ELFDATA2MSB;
    const unsigned number = big ? byte(18) << 8U | byte(19) : byte(19) << 8U | byte(18);
    for (const Machine& machine : kMachines) {
        if (machine.number == number && machine.word == byte(EI_CLASS) && machine.order == byte(EI_DATA))
            return std::string(machine.architecture);
    }
    return std::nullopt;
}

}  // namespace

std::optional<std::string> foreign_architecture(const sys::RootedDir& root, const ProcessSpec& spec) {
    if (spec.args.empty()) return std::nullopt;
    std::string head = head_of_program(root, spec);
    if (head.starts_with("#!")) {
        const std::string line(trim(cut(head.substr(2), '\n').first));
        head = head_of(root, std::string(cut(line, ' ').first));
    }
    const auto found = architecture_of(head);
    if (!found || std::ranges::find(kOwn, *found) != kOwn.end()) return std::nullopt;
    return found;
}

std::string own_architecture() { return std::string(kOwn.front()); }

}  // namespace cooper::run
