#include "layer/late_links.hpp"

#include "base/text.hpp"
#include "layer/detail/kept_time.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>

namespace cooper::layer {

namespace {

constexpr std::size_t kMaxLinks = 100'000;
constexpr std::size_t kMaxBytes = std::size_t{64} << 20U;  // of their names

bool is_whiteout(const struct stat& there) { return S_ISCHR(there.st_mode) && there.st_rdev == 0; }

}  // namespace

Result<std::string> LateLinks::next_placeholder() {
    if (links_.empty() && ::getrandom(token_.data(), token_.size(), 0) != static_cast<ssize_t>(token_.size())) {
        return fail_errno(errno, "random bytes");
    }
    const std::uint64_t number = links_.size();
    std::string content(token_.data(), token_.size());
    content.append(reinterpret_cast<const char*>(&number), sizeof number);
    return content;
}

Result<> LateLinks::add(std::string path, std::string target) {
    bytes_ += path.size() + target.size();
    if (links_.size() >= kMaxLinks || bytes_ > kMaxBytes) {
        return fail(Code::resource_exhausted, Blame::user,
                    "the {} has more than {} hard links that stand before what they name", archive_, links_.size());
    }
    links_.push_back({.path = std::move(path), .target = std::move(target)});
    return {};
}

std::size_t LateLinks::placeholder_at(int dir, const std::string& name, const struct stat& there) const {
    std::uint64_t number = 0;
    std::array<char, kTokenBytes + sizeof number> content{};
    if (links_.empty() || !S_ISREG(there.st_mode) || there.st_size != static_cast<off_t>(content.size())) return kNone;
    const sys::Fd fd(::openat(dir, name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd.valid()) return kNone;
    if (::read(fd.get(), content.data(), content.size()) != static_cast<ssize_t>(content.size())) return kNone;
    if (std::memcmp(content.data(), token_.data(), token_.size()) != 0) return kNone;
    std::memcpy(&number, content.data() + token_.size(), sizeof number);
    return number < links_.size() ? static_cast<std::size_t>(number) : kNone;
}

bool LateLinks::is_placeholder(int dir, const std::string& name, const struct stat& there) const {
    return placeholder_at(dir, name, there) != kNone;
}

// The link that must be made before this one, or kNone when this one is done.
Result<std::size_t> LateLinks::make_link(std::size_t number) {
    Link& link = links_[number];
    link.state = State::visited;
    struct stat there{};
    const auto own = find_(link.path);
    const bool kept = own && ::fstatat(own->dir.get(), own->name.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0 &&
                      placeholder_at(own->dir.get(), own->name, there) == number;
    if (!kept) return link.state = State::done, kNone;
    const auto from = find_(link.target);
    if (!from || ::fstatat(from->dir.get(), from->name.c_str(), &there, AT_SYMLINK_NOFOLLOW) != 0 ||
        is_whiteout(there)) {
        return bad_input("hard link to {}, which is not in the {}", quoted(link.target), archive_);
    }
    if (S_ISDIR(there.st_mode)) return bad_input("hard link to the directory {}", quoted(link.target));
    if (const std::size_t next = placeholder_at(from->dir.get(), from->name, there); next != kNone) {
        if (links_[next].state != State::visited) return next;
        return bad_input("hard link to {}, which is a link that leads back to it", quoted(link.target));
    }
    const auto time = TRY(detail::KeptTime::of(own->dir.get()));
    if (::unlinkat(own->dir.get(), own->name.c_str(), 0) != 0) return fail_errno(errno, "remove the place of a link");
    if (::linkat(from->dir.get(), from->name.c_str(), own->dir.get(), own->name.c_str(), 0) != 0) {
        return fail_errno(errno, "link");
    }
    TRY(time.restore(own->dir.get()));
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
                TRY_CONTEXT(make_link(chain.back()), "{} entry {}", archive_, quoted(links_[chain.back()].path));
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

}  // namespace cooper::layer
