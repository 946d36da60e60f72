#include "layer/detail/late_links.hpp"

#include "base/text.hpp"
#include "sys/fd.hpp"

#include <cerrno>
#include <climits>
#include <cstring>
#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>

namespace cooper::layer::detail {

namespace {

constexpr std::size_t kMaxLinks = 100'000;
constexpr std::size_t kMaxBytes = std::size_t{64} << 20U;  // of their names

Result<std::string> path_of(int fd) {
    std::array<char, PATH_MAX> text{};
    const ssize_t got = ::readlink(fmt::format("/proc/self/fd/{}", fd).c_str(), text.data(), text.size());
    if (got < 0) return fail_errno(errno, "read the path of a directory");
    if (static_cast<std::size_t>(got) == text.size()) return bad_input("the path of a hard link is too long");
    return std::string(text.data(), static_cast<std::size_t>(got));
}

}  // namespace

int LateLinks::hold_place(int parent, const std::string& name) {
    if (links_.empty() && ::getrandom(token_.data(), token_.size(), 0) != static_cast<ssize_t>(token_.size()))
        return -1;
    const sys::Fd fd(::openat(parent, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd.valid()) return -1;
    const std::uint64_t number = links_.size();
    std::array<char, kTokenBytes + sizeof number> content{};
    std::memcpy(content.data(), token_.data(), token_.size());
    std::memcpy(content.data() + token_.size(), &number, sizeof number);
    return ::write(fd.get(), content.data(), content.size()) == static_cast<ssize_t>(content.size()) ? 0 : -1;
}

Result<> LateLinks::add(int parent, const std::string& name, std::string target) {
    if (root_path_.empty()) root_path_ = TRY(path_of(root_.fd()));
    const std::string directory = TRY(path_of(parent));
    if (!directory.starts_with(root_path_)) return bad_input("its directory is not in the layer");
    std::string path = directory.substr(root_path_.size()) + "/" + name;
    path.erase(0, path.find_first_not_of('/'));
    bytes_ += path.size() + target.size();
    if (links_.size() >= kMaxLinks || bytes_ > kMaxBytes) {
        return fail(Code::resource_exhausted, Blame::user,
                    "the layer has more than {} hard links that stand before what they name", links_.size());
    }
    links_.push_back({.path = std::move(path), .target = std::move(target)});
    return {};
}

std::size_t LateLinks::placeholder_at(int parent, const std::string& name, const struct stat& there) const {
    std::uint64_t number = 0;
    std::array<char, kTokenBytes + sizeof number> content{};
    if (links_.empty() || !S_ISREG(there.st_mode) || there.st_size != static_cast<off_t>(content.size())) return kNone;
    const sys::Fd fd(::openat(parent, name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd.valid()) return kNone;
    if (::read(fd.get(), content.data(), content.size()) != static_cast<ssize_t>(content.size())) return kNone;
    if (std::memcmp(content.data(), token_.data(), token_.size()) != 0) return kNone;
    std::memcpy(&number, content.data() + token_.size(), sizeof number);
    return number < links_.size() ? static_cast<std::size_t>(number) : kNone;
}

bool LateLinks::is_placeholder(int parent, const std::string& name, const struct stat& there) const {
    return placeholder_at(parent, name, there) != kNone;
}

// The link that must be made before this one, or kNone when this one is done.
Result<std::size_t> LateLinks::make_link(std::size_t number) {
    Link& link = links_[number];
    link.state = State::visited;
    struct stat there{};
    const auto own = root_.parent_of(link.path);
    const bool kept = own && ::fstatat(own->dir.get(), own->name.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0 &&
                      placeholder_at(own->dir.get(), own->name, there) == number;
    if (!kept) return link.state = State::done, kNone;
    const auto from = root_.parent_of(link.target);
    if (!from || ::fstatat(from->dir.get(), from->name.c_str(), &there, AT_SYMLINK_NOFOLLOW) != 0) {
        return bad_input("hard link to {}, which is not in the layer", quoted(link.target));
    }
    if (S_ISDIR(there.st_mode)) return bad_input("hard link to the directory {}", quoted(link.target));
    if (const std::size_t next = placeholder_at(from->dir.get(), from->name, there); next != kNone) {
        if (links_[next].state != State::visited) return next;
        return bad_input("hard link to {}, which is a link that leads back to it", quoted(link.target));
    }
    if (::unlinkat(own->dir.get(), own->name.c_str(), 0) != 0) return fail_errno(errno, "remove the place of a link");
    if (::linkat(from->dir.get(), from->name.c_str(), own->dir.get(), own->name.c_str(), 0) != 0) {
        return fail_errno(errno, "link");
    }
    link.state = State::done;
    return kNone;
}

Result<> LateLinks::resolve(const Stop& stop) {
    std::vector<std::size_t> chain;
    for (std::size_t first = 0; first < links_.size(); ++first) {
        if (links_[first].state == State::done) continue;
        chain.assign(1, first);
        while (!chain.empty()) {
            TRY(check_stop(stop));
            const std::size_t next =
                TRY_CONTEXT(make_link(chain.back()), "layer entry {}", quoted(links_[chain.back()].path));
            if (next == kNone) {
                chain.pop_back();
            } else {
                chain.push_back(next);
            }
        }
    }
    links_.clear();
    return {};
}

}  // namespace cooper::layer::detail
