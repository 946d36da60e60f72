// The machines that programs are made for, by what an ELF file says of them, and the names of qemu's emulators.
#pragma once

#include <array>
#include <elf.h>
#include <string_view>

namespace cooper::run {

struct Machine {
    std::string_view architecture;  // as in platforms
    std::string_view emulator;      // "qemu-" goes before it
    unsigned char word;             // ELFCLASS32, ELFCLASS64
    unsigned char order;            // ELFDATA2LSB, ELFDATA2MSB
    unsigned number;                // EM_…
};

constexpr unsigned kLoongArch = 258;  // newer than the elf.h of some
constexpr std::array kMachines{
    Machine{"amd64", "x86_64", ELFCLASS64, ELFDATA2LSB, EM_X86_64},
    Machine{"386", "i386", ELFCLASS32, ELFDATA2LSB, EM_386},
    Machine{"arm64", "aarch64", ELFCLASS64, ELFDATA2LSB, EM_AARCH64},
    Machine{"arm", "arm", ELFCLASS32, ELFDATA2LSB, EM_ARM},
    Machine{"riscv64", "riscv64", ELFCLASS64, ELFDATA2LSB, EM_RISCV},
    Machine{"ppc64le", "ppc64le", ELFCLASS64, ELFDATA2LSB, EM_PPC64},
    Machine{"ppc64", "ppc64", ELFCLASS64, ELFDATA2MSB, EM_PPC64},
    Machine{"s390x", "s390x", ELFCLASS64, ELFDATA2MSB, EM_S390},
    Machine{"mips64le", "mips64el", ELFCLASS64, ELFDATA2LSB, EM_MIPS},
    Machine{"mips64", "mips64", ELFCLASS64, ELFDATA2MSB, EM_MIPS},
    Machine{"loong64", "loongarch64", ELFCLASS64, ELFDATA2LSB, kLoongArch},
};

}  // namespace cooper::run
