// What Go's linker leaves in a program. Spec: debug/buildinfo of Go.
#include "attest/packages.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <elf.h>
#include <span>
#include <unistd.h>

namespace cooper::attest {

namespace {

constexpr std::string_view kMagic = "\xff Go buildinf:";
constexpr std::size_t kMaxText = std::size_t{16} << 20U;
constexpr std::size_t kMaxSearch = std::size_t{1} << 20U;  // from the start of the data

bool read_whole(int file, std::uint64_t offset, std::span<char> into) {
    std::size_t done = 0;
    while (done < into.size()) {
        const ssize_t got = ::pread(file, into.data() + done, into.size() - done, static_cast<off_t>(offset + done));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        done += static_cast<std::size_t>(got);
    }
    return true;
}

template <class T>
std::optional<T> read_struct(int file, std::uint64_t offset) {
    std::array<char, sizeof(T)> bytes{};
    if (offset > (std::uint64_t{1} << 48U) || !read_whole(file, offset, bytes)) return std::nullopt;
    T value;
    std::memcpy(&value, bytes.data(), sizeof value);
    return value;
}

std::string read_text(int file, std::uint64_t offset, std::size_t size) {
    std::string text(size, '\0');
    if (offset > (std::uint64_t{1} << 48U) || !read_whole(file, offset, text)) text.clear();
    return text;
}

struct Segment {
    std::uint64_t offset, address, size;
    bool writable;
};

// Little-endian programs only; nullopt: no such program.
template <class Header, class Program>
std::optional<std::vector<Segment>> segments_of(int file) {
    const auto header = read_struct<Header>(file, 0);
    if (!header || header->e_phentsize != sizeof(Program) || header->e_phnum > 128) return std::nullopt;
    std::vector<Segment> segments;
    for (std::size_t i = 0; i < header->e_phnum; ++i) {
        const auto one = read_struct<Program>(file, header->e_phoff + i * sizeof(Program));
        if (!one) return std::nullopt;
        if (one->p_type != PT_LOAD) continue;
        segments.push_back({one->p_offset, one->p_vaddr, one->p_filesz, (one->p_flags & PF_W) != 0});
    }
    return segments;
}

std::optional<std::uint64_t> file_offset(const std::vector<Segment>& segments, std::uint64_t address) {
    for (const auto& one : segments) {
        if (address >= one.address && address - one.address < one.size) return one.offset + (address - one.address);
    }
    return std::nullopt;
}

// A length in groups of seven bits, then the bytes.
std::optional<std::string> take_string(std::string_view& rest) {
    std::uint64_t size = 0;
    for (unsigned shift = 0; shift < 35; shift += 7) {
        if (rest.empty()) return std::nullopt;
        const auto byte = static_cast<unsigned char>(rest.front());
        rest.remove_prefix(1);
        size |= static_cast<std::uint64_t>(byte & 0x7FU) << shift;
        if ((byte & 0x80U) != 0) continue;
        if (size > rest.size()) return std::nullopt;
        std::string text(rest.substr(0, size));
        rest.remove_prefix(size);
        return text;
    }
    return std::nullopt;
}

std::uint64_t read_le(std::string_view bytes, std::size_t size) {
    std::uint64_t value = 0;
    for (std::size_t i = size; i > 0; --i) value = value << 8U | static_cast<unsigned char>(bytes[i - 1]);
    return value;
}

// Before Go 1.18: pointers to a string each.
std::string pointed_string(int file, const std::vector<Segment>& segments, std::uint64_t address, std::size_t word) {
    const auto at = file_offset(segments, address);
    if (!at) return {};
    const std::string header = read_text(file, *at, 2 * word);
    if (header.empty()) return {};
    const std::uint64_t size = read_le(std::string_view(header).substr(word), word);
    const auto text = file_offset(segments, read_le(header, word));
    if (!text || size > kMaxText) return {};
    return read_text(file, *text, size);
}

// Sixteen bytes of guard stand on both sides.
std::string without_guards(std::string modules) {
    if (modules.size() < 33 || modules[modules.size() - 17] != '\n') return {};
    return modules.substr(16, modules.size() - 32);
}

// Where the section of that name is in the file.
template <class Header, class Section>
std::optional<Segment> build_section(int file) {
    const auto header = read_struct<Header>(file, 0);
    if (!header || header->e_shentsize != sizeof(Section) || header->e_shstrndx >= header->e_shnum) return std::nullopt;
    const auto names = read_struct<Section>(file, header->e_shoff + header->e_shstrndx * sizeof(Section));
    if (!names || names->sh_size > kMaxSearch) return std::nullopt;
    const std::string text = read_text(file, names->sh_offset, static_cast<std::size_t>(names->sh_size));
    static constexpr std::string_view kName{".go.buildinfo", 14};  // with its zero byte
    for (std::size_t i = 0; i < header->e_shnum; ++i) {
        const auto one = read_struct<Section>(file, header->e_shoff + i * sizeof(Section));
        if (!one) return std::nullopt;
        if (one->sh_name < text.size() && std::string_view(text).substr(one->sh_name).starts_with(kName))
            return Segment{one->sh_offset, one->sh_addr, one->sh_size, true};
    }
    return std::nullopt;
}

// The magic is at `offset`, and nothing of it reaches beyond `size` bytes.
std::optional<GoBuild> read_at(int file, const std::vector<Segment>& segments, std::uint64_t offset,
                               std::uint64_t size) {
    const std::string head = read_text(file, offset, 32);
    if (size < 32 || head.empty()) return std::nullopt;
    const auto word = static_cast<std::size_t>(static_cast<unsigned char>(head[14]));
    const auto flags = static_cast<unsigned char>(head[15]);
    GoBuild build;
    if ((flags & 2U) != 0) {
        const std::string strings =
            read_text(file, offset + 32, static_cast<std::size_t>(std::min<std::uint64_t>(size - 32, kMaxText)));
        std::string_view rest = strings;
        auto version = take_string(rest);
        auto modules = version ? take_string(rest) : std::nullopt;
        if (!modules) return std::nullopt;
        build = {std::move(*version), without_guards(std::move(*modules))};
    } else if ((word == 4 || word == 8) && (flags & 1U) == 0) {
        const std::string_view pointers = std::string_view(head).substr(16, 2 * word);
        build.version = pointed_string(file, segments, read_le(pointers, word), word);
        build.modules = without_guards(pointed_string(file, segments, read_le(pointers.substr(word), word), word));
    }
    if (build.version.empty() || build.version.size() > 200) return std::nullopt;
    return build;
}

}  // namespace

std::optional<GoBuild> read_go_build(int file) {
    std::array<char, EI_NIDENT> ident{};
    if (!read_whole(file, 0, ident) || std::memcmp(ident.data(), ELFMAG, SELFMAG) != 0) return std::nullopt;
    if (ident[EI_DATA] != ELFDATA2LSB) return std::nullopt;
    const bool wide = ident[EI_CLASS] == ELFCLASS64;
    const auto segments = wide ? segments_of<Elf64_Ehdr, Elf64_Phdr>(file) : segments_of<Elf32_Ehdr, Elf32_Phdr>(file);
    if (!segments) return std::nullopt;
    std::vector<Segment> places = *segments;
    const auto section =
        wide ? build_section<Elf64_Ehdr, Elf64_Shdr>(file) : build_section<Elf32_Ehdr, Elf32_Shdr>(file);
    if (section) places.insert(places.begin(), *section);
    for (const auto& place : places) {
        if (!place.writable) continue;
        // Without a section it stands near the start of the data, at a multiple of sixteen.
        const std::string data =
            read_text(file, place.offset, static_cast<std::size_t>(std::min<std::uint64_t>(place.size, kMaxSearch)));
        std::size_t at = data.find(kMagic);
        while (at != std::string::npos && (place.address + at) % 16 != 0) at = data.find(kMagic, at + 1);
        if (at != std::string::npos) return read_at(file, *segments, place.offset + at, place.size - at);
    }
    return std::nullopt;
}

}  // namespace cooper::attest
