#include "run/emulation.hpp"

#include "base/text.hpp"
#include "run/foreign_program.hpp"
#include "run/init_plan.hpp"
#include "run/machine.hpp"
#include "sys/fd.hpp"
#include "sys/process.hpp"
#include "sys/rooted_dir.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

namespace cooper::run {
namespace {

constexpr const char* kHandlers = "/proc/sys/fs/binfmt_misc";

// After the identification come the type (a program, or one that can be anywhere) and the machine, 16 bits each.
constexpr std::size_t kTypeAt = 16;
constexpr std::size_t kMachineAt = 18;
constexpr std::size_t kHeadBytes = 20;

const Machine* machine_of(std::string_view architecture) {
    const auto* const found = std::ranges::find(kMachines, architecture, &Machine::architecture);
    return found == kMachines.end() ? nullptr : found;
}

void put16(std::string& head, std::size_t at, unsigned value, unsigned char order) {
    head[at + (order == ELFDATA2LSB ? 0 : 1)] = static_cast<char>(value & 0xffU);
    head[at + (order == ELFDATA2LSB ? 1 : 0)] = static_cast<char>(value >> 8U);
}

// The first bytes of a program.
std::string head_of(const Machine& machine) {
    std::string head(kHeadBytes, '\0');
    std::memcpy(head.data(), ELFMAG, SELFMAG);
    head[EI_CLASS] = static_cast<char>(machine.word);
    head[EI_DATA] = static_cast<char>(machine.order);
    head[EI_VERSION] = EV_CURRENT;
    put16(head, kTypeAt, ET_EXEC, machine.order);
    put16(head, kMachineAt, machine.number, machine.order);
    return head;
}

// All of the head counts but the system it is made for, and that it is of a fixed place (2) or not (3).
std::string mask_of(const Machine& machine) {
    std::string mask(kHeadBytes, '\xff');
    mask[EI_OSABI] = mask[EI_ABIVERSION] = '\0';
    put16(mask, kTypeAt, 0xfffeU, machine.order);
    return mask;
}

std::string escaped(std::string_view bytes) {
    std::string text;
    for (const char byte : bytes) text += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
    return text;
}

std::optional<std::string> from_hex(std::string_view text) {
    std::string bytes;
    if (text.size() % 2 != 0) return std::nullopt;
    const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; };
    for (std::size_t at = 0; at < text.size(); at += 2) {
        const int high = digit(text[at]);
        const int low = digit(text[at + 1]);
        if (high < 0 || low < 0) return std::nullopt;
        bytes += static_cast<char>(high * 16 + low);
    }
    return bytes;
}

// Whether a program needs no other file to start. Only such a one works where nothing else of the host is.
bool is_static_program(const std::string& path) {
    const sys::Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!file.valid()) return false;
    Elf64_Ehdr head{};
    if (::pread(file.get(), &head, sizeof head, 0) != static_cast<ssize_t>(sizeof head)) return false;
    if (std::memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 || head.e_ident[EI_CLASS] != ELFCLASS64) return false;
    for (unsigned i = 0; i < head.e_phnum; i++) {
        Elf64_Phdr part{};
        if (::pread(file.get(), &part, sizeof part, static_cast<off_t>(head.e_phoff + i * sizeof part)) !=
            static_cast<ssize_t>(sizeof part)) {
            return false;
        }
        if (part.p_type == PT_INTERP) return false;
    }
    return true;
}

std::vector<BinaryHandler> host_handlers() {
    std::vector<BinaryHandler> handlers;
    const auto dir = sys::RootedDir::open_host(kHandlers);
    if (!dir) return handlers;
    const auto entries = sys::list_dir(dir->fd());
    if (!entries) return handlers;
    for (const auto& entry : *entries) {
        if (entry.name == "register" || entry.name == "status") continue;
        const sys::Fd file(::openat(dir->fd(), entry.name.c_str(), O_RDONLY | O_CLOEXEC));
        if (!file.valid()) continue;
        const auto text = sys::read_to_end(file.get(), 8192);
        if (!text) continue;
        if (auto handler = parse_binary_handler(*text)) handlers.push_back(std::move(*handler));
    }
    return handlers;
}

bool is_own(std::string_view architecture) {
    return architecture.empty() || architecture == own_architecture() ||
           (own_architecture() == "amd64" && architecture == "386");
}

std::string registration(const Machine& machine, const std::string& emulator) {
    // P keeps the program's own name for itself, O and C serve programs that change their rights, F opens it now.
    return fmt::format(":qemu-{}:M::{}:{}:{}:POCF", machine.emulator, escaped(head_of(machine)),
                       escaped(mask_of(machine)), emulator);
}

}  // namespace

bool BinaryHandler::takes(std::string_view architecture) const {
    const Machine* machine = machine_of(architecture);
    if (machine == nullptr) return false;
    const std::string head = head_of(*machine);
    for (std::size_t i = 0; i < magic.size(); i++) {
        const char bits = i < mask.size() ? mask[i] : '\xff';
        const char have = offset + i < head.size() ? head[offset + i] : '\0';
        if (((have ^ magic[i]) & bits) != 0) return false;
    }
    return !magic.empty();
}

std::optional<BinaryHandler> parse_binary_handler(std::string_view text) {
    BinaryHandler handler;
    bool enabled = false;
    for (const std::string& line : split(text, '\n')) {
        const auto [word, rest] = cut(line, ' ');
        const std::string_view value = rest.value_or("");
        if (line == "enabled") enabled = true;
        if (word == "interpreter") handler.interpreter = value;
        if (word == "flags:") handler.opened = value.find('F') != std::string_view::npos;
        if (word == "offset")
            handler.offset = static_cast<std::size_t>(std::clamp<std::int64_t>(parse_int(value).value_or(0), 0, 4096));
        if (word == "magic" || word == "mask") {
            auto bytes = from_hex(value);
            if (!bytes) return std::nullopt;
            (word == "magic" ? handler.magic : handler.mask) = std::move(*bytes);
        }
    }
    if (!enabled || handler.magic.empty() || !handler.interpreter.starts_with('/')) return std::nullopt;
    return handler;
}

std::optional<std::string> Emulators::find(const Machine& machine) const {
    if (directory_ == "none") return std::nullopt;
    // Debian's names before and after it made all of them static, and those of a builder's image.
    for (const std::string& name :
         {fmt::format("qemu-{}-static", machine.emulator), fmt::format("qemu-{}", machine.emulator),
          fmt::format("buildkit-qemu-{}", machine.emulator)}) {
        const auto path = sys::find_program(directory_.empty() ? name : directory_ + "/" + name);
        if (path && is_static_program(*path)) return *path;
    }
    return std::nullopt;
}

bool Emulators::own_handlers_work() {
    const std::lock_guard lock(mutex_);
    if (!own_handlers_work_) {
        sys::SpawnSpec spawn;
        spawn.program = init_program_;
        spawn.args = {"cooper-init", kTryHandlers};
        spawn.env = std::vector<std::string>{};
        auto child = sys::Child::spawn(spawn);
        const auto status = child ? child->wait(Stop{}) : Result<ExitStatus>(child.error());
        own_handlers_work_ = status && status->code == 0;
    }
    return *own_handlers_work_;
}

Emulation Emulators::for_step(std::string_view architecture, Binding binding) {
    Emulation emulation;
    if (is_own(architecture)) return emulation;
    for (const BinaryHandler& handler : host_handlers()) {
        if (!handler.takes(architecture)) continue;
        if (handler.opened) return emulation;
        if (binding == Binding::possible && is_static_program(handler.interpreter)) {
            emulation.bound = handler.interpreter;
            return emulation;
        }
    }
    const Machine* wanted = machine_of(architecture);
    if (wanted == nullptr || !find(*wanted) || !own_handlers_work()) return emulation;
    // All of them: a step may run programs of several kinds.
    for (const Machine& machine : kMachines) {
        if (is_own(machine.architecture)) continue;
        if (const auto path = find(machine)) emulation.registrations.push_back(registration(machine, *path));
    }
    return emulation;
}

bool Emulators::may_run(std::string_view architecture) {
    if (is_own(architecture)) return true;
    const std::vector<BinaryHandler> handlers = host_handlers();
    if (std::ranges::any_of(handlers, [&](const BinaryHandler& handler) { return handler.takes(architecture); }))
        return true;
    const Machine* machine = machine_of(architecture);
    return machine != nullptr && find(*machine) && own_handlers_work();
}

std::optional<std::string> Emulators::useless_emulator(std::string_view architecture) {
    std::optional<std::string> found;
    for (const BinaryHandler& handler : host_handlers()) {
        if (!handler.takes(architecture)) continue;
        if (handler.opened || is_static_program(handler.interpreter)) return std::nullopt;
        found = handler.interpreter;
    }
    const Machine* machine = found ? machine_of(architecture) : nullptr;
    if (machine != nullptr && find(*machine) && own_handlers_work()) return std::nullopt;
    return found;
}

std::vector<std::string> Emulators::architectures() {
    std::vector<std::string> names;
    const std::vector<BinaryHandler> handlers = host_handlers();
    for (const Machine& machine : kMachines) {
        if (is_own(machine.architecture)) continue;
        const bool by_host = std::ranges::any_of(handlers, [&machine](const BinaryHandler& handler) {
            return handler.takes(machine.architecture) && (handler.opened || is_static_program(handler.interpreter));
        });
        if (by_host || (find(machine) && own_handlers_work())) names.emplace_back(machine.architecture);
    }
    return names;
}

}  // namespace cooper::run
