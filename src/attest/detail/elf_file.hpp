// What is where in an ELF program, little-endian ones only. Anybody's bytes: what does not fit is not there.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace cooper::attest::detail {

struct ElfPlace {
    std::uint64_t offset = 0;
    std::uint64_t address = 0;
    std::uint64_t size = 0;
    bool writable = false;
};

class ElfFile {
public:
    // nullopt: no such program.
    [[nodiscard]] static std::optional<ElfFile> open(int file);
    [[nodiscard]] const std::vector<ElfPlace>& segments() const { return segments_; }  // those that are loaded
    [[nodiscard]] std::optional<ElfPlace> section(std::string_view name) const;

private:
    int file_ = -1;
    bool wide_ = false;
    std::vector<ElfPlace> segments_;
};

}  // namespace cooper::attest::detail
