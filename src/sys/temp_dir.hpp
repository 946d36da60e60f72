// TempDir: a fresh directory (0700) that is removed with all it holds.
#pragma once

#include "base/result.hpp"
#include "sys/rooted_dir.hpp"

#include <string>

namespace cooper::sys {

class TempDir {
public:
    TempDir() = default;
    // parent must exist; the name is prefix plus random letters.
    [[nodiscard]] static Result<TempDir> create(const std::string& parent, std::string_view prefix);
    TempDir(TempDir&& other) noexcept;
    TempDir& operator=(TempDir&& other) noexcept;
    ~TempDir();

    [[nodiscard]] const std::string& path() const { return path_; }
    [[nodiscard]] const RootedDir& dir() const { return dir_; }

private:
    void remove();
    std::string path_;
    RootedDir dir_;
};

}  // namespace cooper::sys
