// What commands of package managers do, as far as their words tell: install, from a list or by name, leave
// downloads behind, take them away again. Pure, any thread.
#pragma once

#include "dockerfile/script_commands.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::dockerfile {

enum class PackageManager : std::uint8_t {
    apt,
    apk,
    dnf,
    zypper,
    pacman,
    pip,
    npm,
    yarn,
    pnpm,
    gem,
    bundler,
    composer,
    conda,
    go,
    cargo,
    maven
};

struct PackageInstall {
    PackageManager manager = PackageManager::apt;
    std::string shown;                  // "apt-get install", "npm ci"
    std::vector<std::string> packages;  // as named, with versions; empty when a list or manifest names them
    bool reads_sources = false;         // installs from the files themselves: "pip install .", "$(cat list)"
};
// nullopt: the command installs nothing.
[[nodiscard]] std::optional<PackageInstall> package_install(const ScriptCommand& command);

// Whether the named package has no version. Managers whose names cannot carry one have none unpinned.
[[nodiscard]] bool is_unpinned(PackageManager manager, std::string_view package);

// What a RUN leaves in its layer that only an installation needed.
struct CacheLeft {
    std::string shown;    // the command that left it
    std::string place;    // "/var/lib/apt/lists"
    std::string instead;  // what to write
};
struct CacheSurroundings {
    std::vector<std::string> mounts;       // targets of cache and tmpfs mounts
    std::vector<std::string> environment;  // "PIP_NO_CACHE_DIR=1"
};
[[nodiscard]] std::vector<CacheLeft> caches_left(const std::vector<ScriptCommand>& commands,
                                                 const CacheSurroundings& around);

// Compilers and the like that these commands install and do not remove again.
[[nodiscard]] std::vector<std::string> build_tools_left(const std::vector<ScriptCommand>& commands);

}  // namespace cooper::dockerfile
