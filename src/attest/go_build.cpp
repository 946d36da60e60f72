// What Go's linker leaves in a program. Spec: debug/buildinfo of Go.
#include "attest/detail/elf_file.hpp"
#include "attest/detail/pieces.hpp"
#include "attest/packages.hpp"

#include <algorithm>

namespace cooper::attest {

namespace {

using detail::ElfPlace;
using detail::read_le;
using detail::read_text;

constexpr std::string_view kMagic = "\xff Go buildinf:";
constexpr std::size_t kMaxText = std::size_t{16} << 20U;
constexpr std::size_t kMaxSearch = std::size_t{1} << 20U;  // from the start of the data

std::optional<std::uint64_t> file_offset(const std::vector<ElfPlace>& segments, std::uint64_t address) {
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

// Before Go 1.18: pointers to a string each.
std::string pointed_string(int file, const std::vector<ElfPlace>& segments, std::uint64_t address, std::size_t word) {
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

// The magic is at `offset`, and nothing of it reaches beyond `size` bytes.
std::optional<GoBuild> read_at(int file, const std::vector<ElfPlace>& segments, std::uint64_t offset,
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
    const auto elf = detail::ElfFile::open(file);
    if (!elf) return std::nullopt;
    std::vector<ElfPlace> places = elf->segments();
    if (auto section = elf->section(".go.buildinfo")) {
        section->writable = true;
        places.insert(places.begin(), *section);
    }
    for (const auto& place : places) {
        if (!place.writable) continue;
        // Without a section it stands near the start of the data, at a multiple of sixteen.
        const std::string data =
            read_text(file, place.offset, static_cast<std::size_t>(std::min<std::uint64_t>(place.size, kMaxSearch)));
        std::size_t at = data.find(kMagic);
        while (at != std::string::npos && (place.address + at) % 16 != 0) at = data.find(kMagic, at + 1);
        if (at != std::string::npos) return read_at(file, elf->segments(), place.offset + at, place.size - at);
    }
    return std::nullopt;
}

}  // namespace cooper::attest
