// Hard links that stand in an archive before what they name. A placeholder keeps the place of each, so that whatever
// the archive does to the name later is done to the placeholder; at the end those that are still there become links.
// A placeholder is a file that holds a random token, so no file of an archive is taken for one.
#pragma once

#include "base/stop.hpp"
#include "sys/rooted_dir.hpp"

#include <array>
#include <cstdint>
#include <string>
#include <sys/stat.h>
#include <vector>

namespace cooper::layer::detail {

class LateLinks {
public:
    explicit LateLinks(const sys::RootedDir& root) : root_(root) {}

    // Makes the placeholder of the next link; a system call's result.
    [[nodiscard]] int hold_place(int parent, const std::string& name);
    // The link that the placeholder made last is for. target is a clean path below the root.
    [[nodiscard]] Result<> add(int parent, const std::string& name, std::string target);
    [[nodiscard]] bool is_placeholder(int parent, const std::string& name, const struct stat& there) const;
    // Once, when the archive has ended. A target that never came is bad input.
    [[nodiscard]] Result<> resolve(const Stop& stop);

private:
    enum class State : std::uint8_t { waiting, visited, done };
    struct Link {
        std::string path;  // without links of directories
        std::string target;
        State state = State::waiting;
    };
    static constexpr std::size_t kTokenBytes = 24;
    static constexpr std::size_t kNone = SIZE_MAX;

    [[nodiscard]] std::size_t placeholder_at(int parent, const std::string& name, const struct stat& there) const;
    [[nodiscard]] Result<std::size_t> make_link(std::size_t number);

    const sys::RootedDir& root_;
    std::string root_path_;
    std::array<char, kTokenBytes> token_{};
    std::vector<Link> links_;
    std::size_t bytes_ = 0;
};

}  // namespace cooper::layer::detail
