// What is said of one file: its kind, mode, owner, size, time, target.
#pragma once

#include "codec/go_json.hpp"
#include "inside/stack.hpp"

#include <string>

namespace cooper::inside {

struct FileState {
    Kind kind = Kind::file;
    std::uint32_t mode = 0;
    std::uint32_t uid = 0, gid = 0;
    std::uint64_t size = 0;
    std::int64_t mtime_s = 0;
    std::string target;  // of a symlink
};

[[nodiscard]] FileState state_of(const Entry& entry, const Listing& layer);
// "file 0644 0:0 17B"
[[nodiscard]] std::string described(const FileState& state);
// "mode 0644 → 0755, owner 0:0 → 1:1"; times only where nothing else differs.
[[nodiscard]] std::string change_text(const FileState& before, const FileState& after, const Delta& delta);
// "12B → 2.3kB (+2.3kB)"
[[nodiscard]] std::string size_step(std::uint64_t before, std::uint64_t after);
void put_state(codec::GoJson& json, const FileState& state);

}  // namespace cooper::inside
