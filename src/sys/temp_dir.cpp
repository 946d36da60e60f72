#include "sys/temp_dir.hpp"

#include <cerrno>
#include <cstdlib>
#include <fcntl.h>

namespace cooper::sys {

Result<TempDir> TempDir::create(const std::string& parent, std::string_view prefix) {
    std::string path = parent + "/" + std::string(prefix) + "XXXXXX";
    if (::mkdtemp(path.data()) == nullptr) return fail_errno(errno, fmt::format("make directory in {}", parent));
    TempDir dir;
    dir.path_ = std::move(path);
    dir.dir_ = TRY(RootedDir::open_host(dir.path_));
    return dir;
}

TempDir::TempDir(TempDir&& other) noexcept : path_(std::exchange(other.path_, {})), dir_(std::move(other.dir_)) {}

TempDir& TempDir::operator=(TempDir&& other) noexcept {
    if (this != &other) {
        remove();
        path_ = std::exchange(other.path_, {});
        dir_ = std::move(other.dir_);
    }
    return *this;
}

TempDir::~TempDir() { remove(); }

void TempDir::remove() {
    if (path_.empty()) return;
    const std::size_t slash = path_.rfind('/');
    const Fd parent(::open(path_.substr(0, slash).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (parent.valid()) static_cast<void>(remove_tree_at(parent.get(), path_.substr(slash + 1)));
    path_.clear();
}

}  // namespace cooper::sys
