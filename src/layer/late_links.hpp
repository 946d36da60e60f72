// Hard links that stand in an archive before what they name. A placeholder keeps the place of each, so that whatever
// the archive does to the name later is done to the placeholder; at the end those that are still there become links.
// A placeholder is a file that holds a random token, so no file of an archive is taken for one.
#pragma once

#include "base/stop.hpp"
#include "sys/fd.hpp"

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <sys/stat.h>
#include <vector>

namespace cooper::layer {

class LateLinks {
public:
    // A directory that can be written, and a name in it, whether there is something of that name or not.
    struct Place {
        sys::Fd dir;
        std::string name;
    };
    using Find = std::function<Result<Place>(const std::string& path)>;
    // archive is a word for messages ("layer"). find leads to the paths that add() was given; an error of it means that
    // there is nothing.
    LateLinks(std::string_view archive, Find find) : archive_(archive), find_(std::move(find)) {}

    // The content of the placeholder of the next link.
    [[nodiscard]] Result<std::string> next_placeholder();
    // The link that the placeholder made last is for. path leads to it through no links of directories.
    [[nodiscard]] Result<> add(std::string path, std::string target);
    [[nodiscard]] bool is_placeholder(int dir, const std::string& name, const struct stat& there) const;
    // Once, when the archive has ended. A target that never came is bad input.
    [[nodiscard]] Result<> resolve(const Stop& stop);

private:
    enum class State : std::uint8_t { waiting, visited, done };
    struct Link {
        std::string path;
        std::string target;
        State state = State::waiting;
    };
    static constexpr std::size_t kTokenBytes = 24;
    static constexpr std::size_t kNone = SIZE_MAX;

    [[nodiscard]] std::size_t placeholder_at(int dir, const std::string& name, const struct stat& there) const;
    [[nodiscard]] Result<std::size_t> make_link(std::size_t number);

    std::string archive_;
    Find find_;
    std::array<char, kTokenBytes> token_{};
    std::vector<Link> links_;
    std::size_t bytes_ = 0;
};

}  // namespace cooper::layer
