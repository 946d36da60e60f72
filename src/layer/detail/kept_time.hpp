// The time of a directory, to be given back after something was made in it or removed.
#pragma once

#include "base/result.hpp"

#include <array>
#include <cerrno>
#include <sys/stat.h>

namespace cooper::layer::detail {

class KeptTime {
public:
    static Result<KeptTime> of(int directory) {
        struct stat now{};
        if (::fstat(directory, &now) != 0) return fail_errno(errno, "stat");
        KeptTime kept;
        kept.mtime_ = now.st_mtim;
        return kept;
    }
    [[nodiscard]] Result<> restore(int directory) const {
        const std::array<timespec, 2> times{timespec{.tv_sec = 0, .tv_nsec = UTIME_OMIT}, mtime_};
        if (::futimens(directory, times.data()) != 0) return fail_errno(errno, "set times");
        return {};
    }

private:
    timespec mtime_{};
};

}  // namespace cooper::layer::detail
