#include "run/seccomp.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <fmt/core.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sys/utsname.h>

namespace cooper::run {
namespace {

constexpr std::uint32_t kAllow = SECCOMP_RET_ALLOW;
constexpr std::uint32_t kDeny = SECCOMP_RET_ERRNO | EPERM;
constexpr std::uint32_t kUnknown = SECCOMP_RET_ERRNO | ENOSYS;

// CLONE_NEW* but CLONE_NEWTIME: making namespaces needs CAP_SYS_ADMIN, which sandboxes lack.
constexpr std::uint32_t kCloneNamespaces = 0x7E020000;
// personality(2): PER_LINUX, PER_LINUX32, UNAME26, both, and the query.
constexpr std::array<std::uint32_t, 5> kPersonalities{0, 8, 0x20000, 0x20008, 0xFFFFFFFF};
// Address families that reach beyond a container (vsock) or into little-tested kernel code.
constexpr std::array<std::uint32_t, 9> kDeniedFamilies{12, 19, 20, 23, 25, 34, 37, 38, 40};
constexpr std::uint32_t kFamilies = 46;

constexpr std::size_t argument_offset(std::size_t index) {
    return offsetof(seccomp_data, args) + index * sizeof(std::uint64_t);  // the low word: little endian
}

// The calls that depend on an argument.
struct Architecture {
    std::uint32_t audit;
    std::int16_t AllowedSyscall::* number;
    std::uint32_t clone;
    std::uint32_t socket;
    std::uint32_t personality;
    std::uint32_t fallocate;
    std::size_t length_offset;       // of fallocate's length in seccomp_data: its low word
    std::size_t length_high_offset;  // and its high one
    bool has_x32;
};
constexpr std::uint32_t kClone3 = 435;  // on all
[[maybe_unused]] constexpr Architecture kX86_64{AUDIT_ARCH_X86_64,  &AllowedSyscall::x86_64, 56,  41, 135, 285,
                                                argument_offset(3), argument_offset(3) + 4,  true};
[[maybe_unused]] constexpr Architecture kI386{AUDIT_ARCH_I386,    &AllowedSyscall::i386, 120,  359, 136, 324,
                                              argument_offset(4), argument_offset(5),    false};
[[maybe_unused]] constexpr Architecture kArm64{AUDIT_ARCH_AARCH64, &AllowedSyscall::arm64, 220,  198, 92, 47,
                                               argument_offset(3), argument_offset(3) + 4, false};

using Program = std::vector<sock_filter>;

sock_filter load(std::size_t offset) { return BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<std::uint32_t>(offset)); }
sock_filter give(std::uint32_t action) { return BPF_STMT(BPF_RET | BPF_K, action); }
sock_filter skip_unless(std::uint16_t comparison, std::uint32_t value, std::uint8_t skip) {
    return BPF_JUMP(static_cast<std::uint16_t>(BPF_JMP | comparison | BPF_K), value, 0, skip);
}

void append(Program& program, const Program& part) { program.insert(program.end(), part.begin(), part.end()); }

// if (the loaded word equals value) part; part must return.
void when_equal(Program& program, std::uint32_t value, const Program& part) {
    program.push_back(skip_unless(BPF_JEQ, value, static_cast<std::uint8_t>(part.size())));
    append(program, part);
}

struct Segment {
    std::uint32_t from;
    std::uint32_t action;
};

// A binary search over segments sorted by where they begin.
Program search(std::span<const Segment> segments) {
    if (segments.size() == 1) return {give(segments[0].action)};
    const std::size_t middle = segments.size() / 2;
    const Program left = search(segments.first(middle));
    const Program right = search(segments.subspan(middle));
    Program program;
    // Conditional jumps reach 255 instructions; an unconditional one reaches all.
    program.push_back(skip_unless(BPF_JGE, segments[middle].from, 1));
    program.push_back(BPF_STMT(BPF_JMP | BPF_JA, static_cast<std::uint32_t>(left.size())));
    append(program, left);
    append(program, right);
    return program;
}

std::vector<Segment> segments_of(const Architecture& architecture) {
    std::vector<std::uint32_t> numbers;
    for (const AllowedSyscall& call : allowed_syscalls()) {
        if (call.*architecture.number >= 0) numbers.push_back(static_cast<std::uint32_t>(call.*architecture.number));
    }
    std::sort(numbers.begin(), numbers.end());
    std::vector<Segment> segments{{0, kDeny}};
    for (const std::uint32_t number : numbers) {
        if (segments.back().from == number) {  // directly after an allowed one
            segments.back().action = kAllow;
        } else {
            segments.push_back({number, kAllow});
        }
        segments.push_back({number + 1, kDeny});
    }
    segments.back().action = kUnknown;  // newer than all we know
    std::vector<Segment> merged;
    for (const Segment& segment : segments) {
        if (merged.empty() || merged.back().action != segment.action) merged.push_back(segment);
    }
    return merged;
}

// Programs fall back to writing, as on file systems that cannot reserve. Punching holes and the like stay.
Program fallocate_rules(const Architecture& architecture) {
    constexpr std::uint32_t kModesThatReserve = 1;  // 0 and FALLOC_FL_KEEP_SIZE
    constexpr std::uint32_t kUnsupported = SECCOMP_RET_ERRNO | EOPNOTSUPP;
    return {load(argument_offset(1)),
            BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, ~kModesThatReserve, 0, 1),
            give(kAllow),
            load(architecture.length_high_offset),
            skip_unless(BPF_JGE, 1, 1),
            give(kUnsupported),
            load(architecture.length_offset),
            skip_unless(BPF_JGE, kMaxReservedBytes, 1),
            give(kUnsupported),
            give(kAllow)};
}

Program rules_of(const Architecture& architecture, DiskUse disk) {
    Program program{load(offsetof(seccomp_data, nr))};
    if (architecture.has_x32) {
        program.push_back(skip_unless(BPF_JGE, 0x40000000, 1));
        program.push_back(give(kUnknown));
    }
    when_equal(program, kClone3, {give(kUnknown)});  // its flags are in memory: cannot be looked at
    when_equal(program, architecture.clone,
               {load(argument_offset(0)), BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, kCloneNamespaces, 0, 1), give(kDeny),
                give(kAllow)});
    Program personality{load(argument_offset(0))};
    for (const std::uint32_t value : kPersonalities) when_equal(personality, value, {give(kAllow)});
    personality.push_back(give(kDeny));
    when_equal(program, architecture.personality, personality);
    Program socket{load(argument_offset(0)), skip_unless(BPF_JGE, kFamilies, 1), give(kDeny)};
    for (const std::uint32_t family : kDeniedFamilies) when_equal(socket, family, {give(kDeny)});
    socket.push_back(give(kAllow));
    when_equal(program, architecture.socket, socket);
    if (disk == DiskUse::watched) when_equal(program, architecture.fallocate, fallocate_rules(architecture));
    append(program, search(segments_of(architecture)));
    return program;
}

void add_architecture(Program& program, const Architecture& architecture, DiskUse disk) {
    const Program rules = rules_of(architecture, disk);
    program.push_back(skip_unless(BPF_JEQ, architecture.audit, 1));
    program.push_back(BPF_STMT(BPF_JMP | BPF_JA, 1));
    program.push_back(BPF_STMT(BPF_JMP | BPF_JA, static_cast<std::uint32_t>(rules.size())));
    append(program, rules);
}

std::string base64(std::span<const unsigned char> bytes) {
    constexpr char kLetters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text;
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        const std::size_t n = std::min<std::size_t>(3, bytes.size() - i);
        std::uint32_t word = 0;
        for (std::size_t k = 0; k < 3; k++) word = word << 8 | (k < n ? bytes[i + k] : 0U);
        for (std::size_t k = 0; k < 4; k++) text += k <= n ? kLetters[word >> (18 - 6 * k) & 63] : '=';
    }
    return text;
}

std::string make_json() {
    std::string names;
    for (const AllowedSyscall& call : allowed_syscalls()) {
        names += fmt::format("{}\"{}\"", names.empty() ? "" : ",", call.name);
    }
    std::string json = R"({"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,"architectures":[)";
#if defined(__x86_64__)
    json += R"("SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_X32")";
#elif defined(__aarch64__)
    json += R"("SCMP_ARCH_AARCH64","SCMP_ARCH_ARM")";
#endif
    json += R"(],"syscalls":[{"names":[)" + names + R"(],"action":"SCMP_ACT_ALLOW"})";
    json += fmt::format(
        R"(,{{"names":["clone"],"action":"SCMP_ACT_ALLOW","args":[{{"index":0,"value":{},"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}}]}})",
        kCloneNamespaces);
    json += R"(,{"names":["clone3"],"action":"SCMP_ACT_ERRNO","errnoRet":38})";
    for (const std::uint32_t value : kPersonalities) {
        json += fmt::format(
            R"(,{{"names":["personality"],"action":"SCMP_ACT_ALLOW","args":[{{"index":0,"value":{},"op":"SCMP_CMP_EQ"}}]}})",
            value);
    }
    for (std::uint32_t family = 0; family < kFamilies; family++) {
        if (std::find(kDeniedFamilies.begin(), kDeniedFamilies.end(), family) != kDeniedFamilies.end()) continue;
        json += fmt::format(
            R"(,{{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{{"index":0,"value":{},"op":"SCMP_CMP_EQ"}}]}})",
            family);
    }
    return json + "]}";
}

}  // namespace

std::vector<sock_filter> seccomp_filter(DiskUse disk) {
    Program program{load(offsetof(seccomp_data, arch))};
#if defined(__x86_64__)
    add_architecture(program, kX86_64, disk);
    add_architecture(program, kI386, disk);
#elif defined(__aarch64__)
    add_architecture(program, kArm64, disk);
#else
    return {};
#endif
    program.push_back(give(kUnknown));
    return program;
}

const std::string& seccomp_filter_base64(DiskUse disk) {
    const auto make = [](DiskUse use) {
        const Program program = seccomp_filter(use);
        return base64({reinterpret_cast<const unsigned char*>(program.data()), program.size() * sizeof(sock_filter)});
    };
    static const std::string free = make(DiskUse::free);
    if (disk == DiskUse::free) return free;
    static const std::string watched = make(DiskUse::watched);
    return watched;
}

const std::string& seccomp_json() {
    static const std::string json = make_json();
    return json;
}

}  // namespace cooper::run
