// What `cargo auditable` leaves in a program: a zlib stream of JSON in a section of its own.
#include "attest/detail/elf_file.hpp"
#include "attest/detail/json_text.hpp"
#include "attest/detail/pieces.hpp"
#include "attest/packages.hpp"

#include <libdeflate.h>
#include <memory>

namespace cooper::attest {

namespace {

constexpr std::size_t kMaxPacked = std::size_t{4} << 20U;
constexpr std::size_t kMaxText = std::size_t{16} << 20U;

}  // namespace

std::string read_rust_build(int file) {
    const auto elf = detail::ElfFile::open(file);
    if (!elf) return {};
    const auto section = elf->section(".dep-v0");
    if (!section || section->size > kMaxPacked) return {};
    const std::string packed = detail::read_text(file, section->offset, static_cast<std::size_t>(section->size));
    const std::unique_ptr<libdeflate_decompressor, void (*)(libdeflate_decompressor*)> inflater(
        ::libdeflate_alloc_decompressor(), ::libdeflate_free_decompressor);
    if (inflater == nullptr) return {};
    // Its length is written nowhere.
    for (std::size_t size = std::max<std::size_t>(packed.size() * 8, 4096); size <= kMaxText; size *= 4) {
        std::string text(size, '\0');
        std::size_t got = 0;
        const auto result =
            ::libdeflate_zlib_decompress(inflater.get(), packed.data(), packed.size(), text.data(), text.size(), &got);
        if (result == LIBDEFLATE_INSUFFICIENT_SPACE) continue;
        if (result != LIBDEFLATE_SUCCESS) return {};
        text.resize(got);
        return text;
    }
    return {};
}

std::vector<Package> parse_rust_crates(std::string_view text) {
    std::vector<Package> out;
    const auto json = detail::parse_json(text);
    const auto crates = json.find("packages");
    if (crates == json.end() || !crates->is_array()) return out;
    for (const auto& crate : *crates) {
        if (out.size() >= kMaxPackages) break;
        // What a build script needed is not in the program.
        if (detail::text_of(crate, "kind") == "build") continue;
        Package package =
            detail::package_of("cargo", detail::text_of(crate, "name"), detail::text_of(crate, "version"));
        if (!package.name.empty()) out.push_back(std::move(package));
    }
    return out;
}

}  // namespace cooper::attest
