#include "sys/output_file.hpp"

#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace cooper::sys {

Result<OutputFile> OutputFile::create(const std::string& host_path) {
    struct stat st{};
    if (::stat(host_path.c_str(), &st) == 0 && !S_ISREG(st.st_mode)) {
        if (S_ISDIR(st.st_mode)) return fail_errno(EISDIR, host_path);
        Fd fd(::open(host_path.c_str(), O_WRONLY | O_CLOEXEC));
        if (!fd.valid()) return fail_errno(errno, host_path);
        return OutputFile(std::move(fd), host_path, "");
    }
    std::string part = host_path + ".part";
    Fd fd(::open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!fd.valid()) return fail_errno(errno, part);
    return OutputFile(std::move(fd), host_path, std::move(part));
}

OutputFile::~OutputFile() {
    if (fd_.valid() && !part_.empty()) ::unlink(part_.c_str());
}

Result<> OutputFile::commit() && {
    const auto closed = std::move(fd_).close();
    if (!closed) {
        if (!part_.empty()) ::unlink(part_.c_str());
        return closed;
    }
    if (!part_.empty() && ::rename(part_.c_str(), path_.c_str()) != 0) return fail_errno(errno, path_);
    return {};
}

}  // namespace cooper::sys
