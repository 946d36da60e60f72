#include "attest/detail/elf_file.hpp"

#include "attest/detail/pieces.hpp"

#include <elf.h>

namespace cooper::attest::detail {

namespace {

constexpr std::size_t kMaxNames = std::size_t{1} << 20U;
constexpr std::size_t kMaxSections = 4096;

template <class Header, class Program>
std::optional<std::vector<ElfPlace>> segments_of(int file) {
    const auto header = read_struct<Header>(file, 0);
    if (!header || header->e_phentsize != sizeof(Program) || header->e_phnum > 128) return std::nullopt;
    std::vector<ElfPlace> segments;
    for (std::size_t i = 0; i < header->e_phnum; ++i) {
        const auto one = read_struct<Program>(file, header->e_phoff + i * sizeof(Program));
        if (!one) return std::nullopt;
        if (one->p_type != PT_LOAD) continue;
        segments.push_back({one->p_offset, one->p_vaddr, one->p_filesz, (one->p_flags & PF_W) != 0});
    }
    return segments;
}

template <class Header, class Section>
std::optional<ElfPlace> section_of(int file, std::string_view name) {
    const auto header = read_struct<Header>(file, 0);
    if (!header || header->e_shentsize != sizeof(Section) || header->e_shstrndx >= header->e_shnum) return std::nullopt;
    const auto names = read_struct<Section>(file, header->e_shoff + header->e_shstrndx * sizeof(Section));
    if (!names || names->sh_size > kMaxNames) return std::nullopt;
    const std::string text = read_text(file, names->sh_offset, static_cast<std::size_t>(names->sh_size));
    for (std::size_t i = 0; i < std::min<std::size_t>(header->e_shnum, kMaxSections); ++i) {
        const auto one = read_struct<Section>(file, header->e_shoff + i * sizeof(Section));
        if (!one) return std::nullopt;
        if (one->sh_name >= text.size() || one->sh_type == SHT_NOBITS) continue;
        const std::string_view rest = std::string_view(text).substr(one->sh_name);
        if (rest.substr(0, rest.find('\0')) != name) continue;
        return ElfPlace{one->sh_offset, one->sh_addr, one->sh_size, (one->sh_flags & SHF_WRITE) != 0};
    }
    return std::nullopt;
}

}  // namespace

std::optional<ElfFile> ElfFile::open(int file) {
    std::array<char, EI_NIDENT> ident{};
    if (!read_whole(file, 0, ident) || std::memcmp(ident.data(), ELFMAG, SELFMAG) != 0) return std::nullopt;
    if (ident[EI_DATA] != ELFDATA2LSB) return std::nullopt;
    ElfFile out;
    out.file_ = file;
    out.wide_ = ident[EI_CLASS] == ELFCLASS64;
    auto segments = out.wide_ ? segments_of<Elf64_Ehdr, Elf64_Phdr>(file) : segments_of<Elf32_Ehdr, Elf32_Phdr>(file);
    if (!segments) return std::nullopt;
    out.segments_ = std::move(*segments);
    return out;
}

std::optional<ElfPlace> ElfFile::section(std::string_view name) const {
    return wide_ ? section_of<Elf64_Ehdr, Elf64_Shdr>(file_, name) : section_of<Elf32_Ehdr, Elf32_Shdr>(file_, name);
}

}  // namespace cooper::attest::detail
