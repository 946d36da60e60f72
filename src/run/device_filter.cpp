#include "run/device_filter.hpp"

#include "sys/fd.hpp"

#include <cstring>
#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <vector>

namespace cooper::run {
namespace {

constexpr std::uint8_t kType = 2;
constexpr std::uint8_t kAccess = 3;
constexpr std::uint8_t kMajor = 4;
constexpr std::uint8_t kMinor = 5;

bpf_insn instruction(int code, std::uint8_t destination, std::uint8_t source, std::int16_t offset, std::int32_t value) {
    bpf_insn insn{};
    insn.code = static_cast<std::uint8_t>(code);
    insn.dst_reg = destination & 0xf;
    insn.src_reg = source & 0xf;
    insn.off = offset;
    insn.imm = value;
    return insn;
}
bpf_insn load_word(std::uint8_t into, std::int16_t offset) {
    return instruction(BPF_LDX | BPF_MEM | BPF_W, into, BPF_REG_1, offset, 0);
}
bpf_insn skip_if_not(std::uint8_t reg, std::int32_t value, std::int16_t count) {
    return instruction(BPF_JMP | BPF_JNE | BPF_K, reg, 0, count, value);
}
bpf_insn set_result(std::int32_t value) { return instruction(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, value); }
bpf_insn skip_if_any(std::uint8_t reg, std::int32_t bits, std::int16_t count) {
    return instruction(BPF_JMP | BPF_JSET | BPF_K, reg, 0, count, bits);
}
bpf_insn finish() { return instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0); }

// The access that a device is not given.
std::int32_t denied(const DeviceNode& node) {
    std::int32_t bits = 0;
    if (node.access.find('r') == std::string::npos) bits |= BPF_DEVCG_ACC_READ;
    if (node.access.find('w') == std::string::npos) bits |= BPF_DEVCG_ACC_WRITE;
    return bits;
}

std::vector<bpf_insn> make_program(std::span<const DeviceNode> further) {
    std::vector<bpf_insn> program{
        load_word(kType, 0),
        instruction(BPF_ALU64 | BPF_MOV | BPF_X, kAccess, kType, 0, 0),
        instruction(BPF_ALU | BPF_AND | BPF_K, kType, 0, 0, 0xffff),
        instruction(BPF_ALU | BPF_RSH | BPF_K, kAccess, 0, 0, 16),
        load_word(kMajor, 4),
        load_word(kMinor, 8),
        // mknod alone is allowed for all
        skip_if_not(kAccess, BPF_DEVCG_ACC_MKNOD, 2),
        set_result(1),
        finish(),
    };
    for (const DeviceNode& node : further) {
        if (node.type == 'p') continue;
        program.push_back(skip_if_not(kType, node.type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR, 5));
        program.push_back(skip_if_not(kMajor, static_cast<std::int32_t>(node.major), 4));
        program.push_back(skip_if_not(kMinor, static_cast<std::int32_t>(node.minor), 3));
        program.push_back(skip_if_any(kAccess, denied(node), 2));
        program.push_back(set_result(1));
        program.push_back(finish());
    }
    // of block devices nothing else
    program.push_back(instruction(BPF_JMP | BPF_JEQ | BPF_K, kType, 0, 2, BPF_DEVCG_DEV_CHAR));
    program.push_back(set_result(0));
    program.push_back(finish());
    for (const DeviceNumber& device : kOpenDevices) {
        const bool any = device.minor < 0;
        program.push_back(skip_if_not(kMajor, static_cast<std::int32_t>(device.major), any ? 2 : 3));
        if (!any) program.push_back(skip_if_not(kMinor, device.minor, 2));
        program.push_back(set_result(1));
        program.push_back(finish());
    }
    program.push_back(set_result(0));
    program.push_back(finish());
    return program;
}

int bpf(int command, bpf_attr& attributes) {
    return static_cast<int>(::syscall(SYS_bpf, command, &attributes, sizeof attributes));
}

sys::Fd load_program(std::span<const DeviceNode> further) {
    const std::vector<bpf_insn> program = make_program(further);
    static const char license[] = "Apache-2.0";
    bpf_attr attributes;
    std::memset(&attributes, 0, sizeof attributes);
    attributes.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
    attributes.insns = reinterpret_cast<std::uintptr_t>(program.data());
    attributes.insn_cnt = static_cast<std::uint32_t>(program.size());
    attributes.license = reinterpret_cast<std::uintptr_t>(license);
    return sys::Fd(bpf(BPF_PROG_LOAD, attributes));
}

}  // namespace

bool attach_device_filter(int cgroup_dir_fd, std::span<const DeviceNode> further) {
    static const sys::Fd standard = load_program({});
    const sys::Fd own = further.empty() ? sys::Fd() : load_program(further);
    const sys::Fd& program = further.empty() ? standard : own;
    if (!program.valid()) return false;
    bpf_attr attributes;
    std::memset(&attributes, 0, sizeof attributes);
    attributes.target_fd = static_cast<std::uint32_t>(cgroup_dir_fd);
    attributes.attach_bpf_fd = static_cast<std::uint32_t>(program.get());
    attributes.attach_type = BPF_CGROUP_DEVICE;
    attributes.attach_flags = BPF_F_ALLOW_MULTI;
    return bpf(BPF_PROG_ATTACH, attributes) == 0;
}

}  // namespace cooper::run
