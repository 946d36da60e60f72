#include "ops/secret_guard.hpp"

#include "base/text.hpp"
#include "sys/fd.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace cooper::ops {

namespace {

constexpr std::size_t kPiece = 1U << 20U;

bool contains(std::string_view text, std::string_view value) {
    return ::memmem(text.data(), text.size(), value.data(), value.size()) != nullptr;
}

}  // namespace

void SecretGuard::add(const std::string& id, const session::Secret& secret) {
    if (on_leak_ == OnLeak::allow || allowed_.contains(id)) return;
    std::string_view value = secret.reveal();
    while (!value.empty() && std::strchr(" \t\r\n", value.back()) != nullptr) value.remove_suffix(1);
    if (value.size() < kShortest) return;
    values_.lock()->insert_or_assign(id, session::Secret(std::string(value)));
}

Result<> SecretGuard::found(const std::string& id, const std::string& where, VertexProgress& progress) const {
    const std::string text = fmt::format("the value of the secret {} is in {}", quoted(id), where);
    if (on_leak_ == OnLeak::warn) {
        progress.log(2, "warning: " + text + "\n");
        return {};
    }
    return fail(Code::failed_precondition, Blame::user, "{}, which would be part of the result", text)
        .with_hint(fmt::format(
            "use it from its mount and leave it there; if it is meant to stay: --secret id={},leak=allow", id));
}

// One walk over a layer. Directories are kept open from the root to where the walk is.
struct SecretGuard::Scan {
    const SecretGuard& guard;
    const Values& values;
    VertexProgress& progress;
    const Stop& stop;
    std::size_t longest = 0;
    std::vector<char> buffer;
    std::set<std::pair<dev_t, ino_t>> seen;  // of files with several names

    Result<> names(std::string_view text, const std::string& where) {
        for (const auto& [id, value] : values) {
            if (contains(text, value.reveal())) TRY(guard.found(id, where, progress));
        }
        return {};
    }

    Result<> content(int fd, const std::string& path) {
        std::size_t kept = 0;  // the end of the last piece, in which a value may begin
        std::set<std::string> told;
        while (true) {
            TRY(check_stop(stop));
            const std::size_t n = TRY_CONTEXT(
                sys::read_some(fd, std::as_writable_bytes(std::span(buffer).subspan(kept, kPiece))), "{}", path);
            if (n == 0) return {};
            const std::string_view piece(buffer.data(), kept + n);
            for (const auto& [id, value] : values) {
                if (!contains(piece, value.reveal()) || !told.insert(id).second) continue;
                TRY(guard.found(id, path, progress));
            }
            kept = std::min(piece.size(), longest - 1);
            std::memmove(buffer.data(), piece.data() + piece.size() - kept, kept);
        }
    }

    Result<> directory(int dir_fd, const std::string& path) {
        for (const auto& entry : TRY(sys::list_dir(dir_fd))) {
            const std::string below = path + "/" + entry.name;
            struct stat st{};
            if (::fstatat(dir_fd, entry.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) return fail_errno(errno, below);
            if (S_ISCHR(st.st_mode) && st.st_rdev == 0) continue;  // what a step removed
            TRY(names(entry.name, "the name of a file in " + (path.empty() ? "/" : path)));
            if (S_ISDIR(st.st_mode)) {
                const sys::Fd child(
                    ::openat(dir_fd, entry.name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
                if (!child.valid()) return fail_errno(errno, below);
                TRY(directory(child.get(), below));
            } else if (S_ISLNK(st.st_mode)) {
                std::array<char, 4096> target{};
                const ssize_t size = ::readlinkat(dir_fd, entry.name.c_str(), target.data(), target.size());
                if (size > 0) TRY(names({target.data(), static_cast<std::size_t>(size)}, "the link " + below));
            } else if (S_ISREG(st.st_mode) && st.st_size >= static_cast<off_t>(kShortest)) {
                if (st.st_nlink > 1 && !seen.emplace(st.st_dev, st.st_ino).second) continue;
                const sys::Fd file(::openat(dir_fd, entry.name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY));
                if (!file.valid()) return fail_errno(errno, below);
                TRY(content(file.get(), below));
            }
        }
        return {};
    }
};

Result<> SecretGuard::check(const sys::RootedDir& layer, VertexProgress& progress, const Stop& stop) const {
    const Values values = *values_.lock();
    if (values.empty()) return {};
    Scan scan{.guard = *this, .values = values, .progress = progress, .stop = stop, .buffer = {}, .seen = {}};
    for (const auto& [id, value] : values) scan.longest = std::max(scan.longest, value.reveal().size());
    scan.buffer.resize(kPiece + scan.longest);
    TRY_CONTEXT(scan.directory(layer.fd(), ""), "looking for secrets in what the step wrote");
    return {};
}

Result<> SecretGuard::check(std::string_view text, std::string_view what, VertexProgress& progress) const {
    const Values values = *values_.lock();
    for (const auto& [id, value] : values) {
        if (contains(text, value.reveal())) TRY(found(id, std::string(what), progress));
    }
    return {};
}

std::string SecretGuard::without_secrets(std::string text) const {
    static constexpr std::string_view kMark = "xxxxx";
    const Values values = *values_.lock();
    for (const auto& [id, value] : values) {
        for (auto at = text.find(value.reveal()); at != std::string::npos; at = text.find(value.reveal(), at)) {
            text.replace(at, value.reveal().size(), kMark);
            at += kMark.size();
        }
    }
    return text;
}

}  // namespace cooper::ops
