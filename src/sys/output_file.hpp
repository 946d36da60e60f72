// OutputFile: a file of the user's that gets its name when it is whole. What was there before stays until
// then; a pipe, a device or a socket under that name is written to as it is, never replaced.
#pragma once

#include "sys/fd.hpp"

#include <string>

namespace cooper::sys {

class OutputFile {
public:
    static Result<OutputFile> create(const std::string& host_path);
    OutputFile(OutputFile&&) noexcept = default;
    OutputFile& operator=(OutputFile&&) noexcept = default;
    // Without commit(): nothing is left.
    ~OutputFile();

    [[nodiscard]] int fd() const { return fd_.get(); }
    [[nodiscard]] Result<> commit() &&;

private:
    OutputFile(Fd fd, std::string path, std::string part)
        : fd_(std::move(fd)), path_(std::move(path)), part_(std::move(part)) {}
    Fd fd_;
    std::string path_;
    std::string part_;  // empty: written in place
};

}  // namespace cooper::sys
