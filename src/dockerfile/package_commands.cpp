#include "dockerfile/package_commands.hpp"

#include "base/text.hpp"

#include <algorithm>
#include <array>
#include <span>

namespace cooper::dockerfile {

namespace {

using Words = std::vector<std::string>;
using Names = std::initializer_list<std::string_view>;

bool is_one_of(std::string_view word, Names list) { return std::ranges::find(list, word) != list.end(); }

bool is_pip(std::string_view program) {
    if (!program.starts_with("pip")) return false;
    return std::ranges::all_of(program.substr(3), [](char c) { return (c >= '0' && c <= '9') || c == '.'; });
}

std::optional<PackageManager> manager_of(std::string_view program) {
    using enum PackageManager;
    static constexpr std::array<std::pair<std::string_view, PackageManager>, 23> kPrograms = {{
        {"apt-get", apt},     {"apt", apt},           {"aptitude", apt}, {"apk", apk},       {"dnf", dnf},
        {"yum", dnf},         {"microdnf", dnf},      {"tdnf", dnf},     {"zypper", zypper}, {"pacman", pacman},
        {"npm", npm},         {"yarn", yarn},         {"pnpm", pnpm},    {"gem", gem},       {"bundle", bundler},
        {"bundler", bundler}, {"composer", composer}, {"conda", conda},  {"mamba", conda},   {"micromamba", conda},
        {"go", go},           {"cargo", cargo},       {"mvn", maven},
    }};
    if (is_pip(program)) return pip;
    for (const auto& [name, manager] : kPrograms) {
        if (name == program) return manager;
    }
    return std::nullopt;
}

// Options whose value is the next word, so that it is not taken for a package.
bool takes_value(PackageManager manager, std::string_view option) {
    using enum PackageManager;
    switch (manager) {
        case apt:
            return is_one_of(option, {"-t", "--target-release", "-o", "--option", "-c", "--config-file", "-a"});
        case apk:
            return is_one_of(option, {"-t", "--virtual", "-X", "--repository", "-p", "--root", "--keys-dir",
                                      "--repositories-file", "--arch", "--cache-dir"});
        case pip:
            return is_one_of(option, {"-r",
                                      "--requirement",
                                      "-c",
                                      "--constraint",
                                      "-e",
                                      "--editable",
                                      "-i",
                                      "--index-url",
                                      "--extra-index-url",
                                      "-f",
                                      "--find-links",
                                      "-t",
                                      "--target",
                                      "--prefix",
                                      "--root",
                                      "--trusted-host",
                                      "--platform",
                                      "--python-version",
                                      "--only-binary",
                                      "--no-binary",
                                      "--cache-dir",
                                      "--timeout",
                                      "--src",
                                      "-w",
                                      "--wheel-dir",
                                      "--upgrade-strategy",
                                      "--progress-bar",
                                      "--log",
                                      "--cert",
                                      "--global-option",
                                      "--config-settings",
                                      "-C",
                                      "--retries",
                                      "--proxy"});
        case npm:
        case yarn:
        case pnpm:
            return is_one_of(option, {"--cache", "--prefix", "-C", "--registry", "--userconfig", "--cwd", "--omit",
                                      "--include", "--loglevel", "--workspace", "-w", "--network-timeout",
                                      "--cache-folder", "--store-dir", "--dir", "--filter"});
        case gem:
            return is_one_of(
                option, {"-v", "--version", "-i", "--install-dir", "-n", "--bindir", "-P", "-s", "--source", "-p"});
        case cargo:
            return is_one_of(option, {"--version", "--vers", "--git", "--branch", "--tag", "--rev", "--path", "--root",
                                      "--features", "-F", "--target", "--profile", "-j", "--jobs", "--bin"});
        case conda:
            return is_one_of(option, {"-n", "--name", "-c", "--channel", "-p", "--prefix", "-f", "--file"});
        case dnf:
        case zypper:
        case pacman:
        case bundler:
        case composer:
        case go:
        case maven:
            return false;
    }
    return false;
}

// The words that are no options and no values of options.
Words operands(PackageManager manager, const Words& words) {
    Words out;
    for (std::size_t i = 1; i < words.size(); ++i) {
        if (!words[i].starts_with('-')) {
            out.push_back(words[i]);
        } else if (takes_value(manager, words[i])) {
            ++i;
        }
    }
    return out;
}

bool has_option(const Words& words, Names options) {
    return std::ranges::any_of(words, [&](const std::string& word) {
        return std::ranges::any_of(options, [&](std::string_view option) {
            return word == option || (option.starts_with("--") && word.starts_with(option) &&
                                      word.size() > option.size() && word[option.size()] == '=');
        });
    });
}

bool is_expansion(std::string_view word) {
    return word.find('$') != std::string_view::npos || word.find('`') != std::string_view::npos;
}

// A path, an archive, a URL: not the name of a package.
bool is_location(std::string_view word) {
    return word.starts_with('.') || word.starts_with('/') || word.find("://") != std::string_view::npos ||
           word.ends_with(".whl") || word.ends_with(".deb") || word.ends_with(".rpm") || word.ends_with(".tgz");
}

// Which words make this manager install; the first operand, or "" for none at all.
bool installs(PackageManager manager, std::string_view verb, const Words& words) {
    using enum PackageManager;
    switch (manager) {
        case apt:
            return is_one_of(verb, {"install", "build-dep"});
        case apk:
            return verb == "add";
        case dnf:
            return is_one_of(verb, {"install", "groupinstall", "localinstall"});
        case zypper:
            return is_one_of(verb, {"install", "in"});
        case pacman:
            return std::ranges::any_of(words, [](const std::string& w) { return w.starts_with("-S") && w != "-Scc"; });
        case pip:
            return is_one_of(verb, {"install", "wheel", "download"});
        case npm:
        case pnpm:
            return is_one_of(verb, {"install", "i", "ci", "add", "clean-install"});
        case yarn:
            return is_one_of(verb, {"install", "add"}) ||
                   (verb.empty() && !has_option(words, {"--version", "-v", "--help", "-h"}));
        case gem:
        case bundler:
            return verb == "install";
        case composer:
            return is_one_of(verb, {"install", "require"});
        case conda:
            return is_one_of(verb, {"install", "create", "env"});
        case go:
            return is_one_of(verb, {"mod", "install", "get"});
        case cargo:
            return is_one_of(verb, {"fetch", "install"});
        case maven:
            return verb.starts_with("dependency:");
    }
    return false;
}

std::string shown_of(const ScriptCommand& command, std::string_view verb) {
    std::string out(command.program());
    if (!verb.empty()) out += " " + std::string(verb);
    return out;
}

// --- caches ---

bool covers(std::string_view mount, std::string_view place) {
    const auto below = [](std::string_view path, std::string_view dir) {
        return path == dir || (path.starts_with(dir) && path.size() > dir.size() && path[dir.size()] == '/');
    };
    while (mount.size() > 1 && mount.ends_with('/')) mount.remove_suffix(1);
    return below(place, mount) || below(mount, place);
}

class CacheFinder {
public:
    CacheFinder(const std::vector<ScriptCommand>& commands, const CacheSurroundings& around)
        : commands_(commands), around_(around) {}

    std::vector<CacheLeft> run() {
        for (const ScriptCommand& command : commands_) look(command);
        return std::move(out_);
    }

private:
    void look(const ScriptCommand& command) {
        using enum PackageManager;
        const auto manager = manager_of(command.program());
        if (!manager) return;
        const Words given = operands(*manager, command.words);
        const std::string_view verb = given.empty() ? std::string_view() : given.front();
        const std::string shown = shown_of(command, verb);
        const bool install = installs(*manager, verb, command.words);
        switch (*manager) {
            case apt:
                if (verb == "update") apt_lists(shown);
                break;
            case apk:
                if ((install || verb == "update") && !has_option(command.words, {"--no-cache"})) {
                    left(shown, "/var/cache/apk", {"/etc/apk/cache"}, "write apk add --no-cache");
                }
                break;
            case dnf:
                if (install || is_one_of(verb, {"update", "upgrade", "makecache"})) {
                    const std::string program(command.program());
                    left(shown, "/var/cache/dnf", {"/var/cache/yum", "/var/cache/libdnf5"},
                         "end the same RUN with && " + program + " clean all",
                         [](const Words& w) { return w.size() > 2 && w[1] == "clean" && w[2] == "all"; });
                }
                break;
            case zypper:
                if (install) {
                    left(shown, "/var/cache/zypp", {}, "end the same RUN with && zypper clean --all",
                         [](const Words& w) { return w[0] == "zypper" && has_word(w, {"clean", "cc"}); });
                }
                break;
            case pacman:
                if (install) {
                    left(shown, "/var/cache/pacman", {}, "end the same RUN with && pacman -Scc --noconfirm",
                         [](const Words& w) { return w[0] == "pacman" && has_word(w, {"-Scc", "-Sc"}); });
                }
                break;
            case pip:
                if (install && !has_option(command.words, {"--no-cache-dir"}) && !is_set("PIP_NO_CACHE_DIR", command)) {
                    left(shown, "/root/.cache/pip", {},
                         "write " + std::string(command.program()) + " " + std::string(verb) +
                             " --no-cache-dir, or keep the downloads for later builds with RUN "
                             "--mount=type=cache,target=/root/.cache/pip",
                         [](const Words& w) { return is_pip(w[0]) && has_word(w, {"purge"}); });
                }
                break;
            case npm:
                if (install) {
                    left(shown, "/root/.npm", {},
                         "write RUN --mount=type=cache,target=/root/.npm " + shown +
                             ", or end the same RUN with && npm cache clean --force",
                         [](const Words& w) {
                             return w[0] == "npm" && has_word(w, {"clean"}) && has_word(w, {"cache"});
                         });
                }
                break;
            case yarn:
                if (install) {
                    left(shown, "/usr/local/share/.cache/yarn", {"/root/.yarn", "/root/.cache/yarn"},
                         "write RUN --mount=type=cache,target=/usr/local/share/.cache/yarn " + shown +
                             ", or end the same RUN with && yarn cache clean",
                         [](const Words& w) { return w[0] == "yarn" && has_word(w, {"clean"}); });
                }
                break;
            case conda:
                if (install) {
                    left(shown, "/opt/conda/pkgs", {}, "end the same RUN with && conda clean --all --yes",
                         [](const Words& w) { return w.size() > 1 && w[1] == "clean"; });
                }
                break;
            case pnpm:
            case gem:
            case bundler:
            case composer:
            case go:
            case cargo:
            case maven:
                break;
        }
    }

    void apt_lists(const std::string& shown) {
        left(shown, "/var/lib/apt/lists", {},
             "end the same RUN with && rm -rf /var/lib/apt/lists/*, or keep the lists for later builds with RUN "
             "--mount=type=cache,target=/var/lib/apt --mount=type=cache,target=/var/cache/apt");
    }

    static bool has_word(const Words& words, Names list) {
        return std::ranges::any_of(words, [&](const std::string& word) { return is_one_of(word, list); });
    }

    [[nodiscard]] bool is_set(std::string_view name, const ScriptCommand& command) const {
        const auto sets = [&](const std::string& entry) {
            const auto [key, value] = cut(entry, '=');
            return key == name && value && !is_one_of(*value, {"", "0", "false", "off", "no"});
        };
        const auto any = [&](const std::vector<std::string>& list) { return std::ranges::any_of(list, sets); };
        return any(around_.environment) || any(command.assignments) ||
               std::ranges::any_of(commands_, [&](const ScriptCommand& one) {
                   return one.program() == "export" && any(one.assignments);
               });
    }

    // "rm -rf /var/lib/apt/lists/*", "rm -rf /root/.cache", "rm -rf ~/.npm".
    [[nodiscard]] bool is_removed(std::string_view place) const {
        return std::ranges::any_of(commands_, [&](const ScriptCommand& command) {
            if (command.program() == "find") {
                return command.words.size() > 1 && covers(command.words[1], place) &&
                       has_word(command.words, {"-delete"});
            }
            if (command.program() != "rm") return false;
            return std::ranges::any_of(command.words, [&](std::string word) {
                for (const std::string_view home : {"~/", "$HOME/", "${HOME}/"}) {
                    if (word.starts_with(home)) word = "/root/" + word.substr(home.size());
                }
                while (word.ends_with('*') || word.ends_with('/')) word.pop_back();
                return !word.empty() && word.starts_with('/') && covers(word, place);
            });
        });
    }

    using Cleans = bool (*)(const Words&);
    void left(const std::string& shown, std::string_view place, Names others, std::string instead,
              Cleans cleans = nullptr) {
        const auto gone = [&](std::string_view where) {
            return is_removed(where) ||
                   std::ranges::any_of(around_.mounts, [&](const std::string& mount) { return covers(mount, where); });
        };
        if (gone(place) || std::ranges::any_of(others, gone)) return;
        if (cleans != nullptr && std::ranges::any_of(commands_, [&](const ScriptCommand& one) {
                return !one.words.empty() && cleans(one.words);
            })) {
            return;
        }
        const bool told = std::ranges::any_of(out_, [&](const CacheLeft& one) { return one.place == place; });
        if (!told) out_.push_back({shown, std::string(place), std::move(instead)});
    }

    const std::vector<ScriptCommand>& commands_;
    const CacheSurroundings& around_;
    std::vector<CacheLeft> out_;
};

// --- build tools ---

bool is_build_tool(std::string_view package) {
    package = package.substr(0, package.find_first_of("=<>~@:"));
    static constexpr std::array<std::string_view, 36> kTools = {
        "autoconf",    "automake", "bear",       "binutils", "bison",     "build-base", "build-essential",
        "cargo",       "clang",    "cmake",      "cmake3",   "flex",      "g++",        "gcc",
        "gcc-c++",     "gfortran", "go",         "golang",   "golang-go", "libtool",    "linux-headers",
        "llvm",        "m4",       "make",       "maven",    "meson",     "nasm",       "ninja",
        "ninja-build", "patch",    "pkg-config", "pkgconf",  "rust",      "rustc",      "swig",
        "yasm"};
    return std::ranges::find(kTools, package) != kTools.end() || package.ends_with("-dev") ||
           package.ends_with("-devel");
}

}  // namespace

std::optional<PackageInstall> package_install(const ScriptCommand& command) {
    using enum PackageManager;
    const auto manager = manager_of(command.program());
    if (!manager) return std::nullopt;
    Words given = operands(*manager, command.words);
    const std::string verb = given.empty() ? std::string() : given.front();
    if (!installs(*manager, verb, command.words)) return std::nullopt;
    if (*manager == go && verb == "mod" && (given.size() < 2 || given[1] != "download")) return std::nullopt;
    PackageInstall out;
    out.manager = *manager;
    out.shown = shown_of(command, *manager == go && verb == "mod" ? "mod download" : verb);
    if (!given.empty() && *manager != pacman) given.erase(given.begin());
    if ((*manager == go && verb == "mod") || (*manager == conda && verb == "env")) given.clear();
    for (std::string& word : given) {
        if (is_expansion(word) || is_location(word)) {
            out.reads_sources = out.reads_sources || !word.starts_with("http");
        } else {
            out.packages.push_back(std::move(word));
        }
    }
    const auto& words = command.words;
    const bool versioned = has_option(words, {"-v", "--version", "--vers", "--git"});
    if (versioned && (*manager == gem || *manager == cargo)) out.packages.clear();
    if (*manager == pip && has_option(words, {"-e", "--editable"})) out.reads_sources = true;
    if (*manager == cargo && has_option(words, {"--path"})) out.reads_sources = true;
    if (*manager == go && verb != "mod" && out.packages.empty()) out.reads_sources = true;
    return out;
}

bool is_unpinned(PackageManager manager, std::string_view package) {
    using enum PackageManager;
    switch (manager) {
        case apt:
            return package.find('=') == std::string_view::npos && !package.ends_with('-');
        case apk:
            // A name with a dot before it is a group of the command's own.
            return package.find_first_of("=~<>") == std::string_view::npos && !package.starts_with('.');
        case pip:
            // These three are tools that people want new.
            return package.find_first_of("=~<>@!") == std::string_view::npos && package != "pip" &&
                   package != "setuptools" && package != "wheel";
        case npm:
        case yarn:
        case pnpm: {
            const std::size_t at = package.find('@', 1);
            return at == std::string_view::npos || package.substr(at) == "@latest";
        }
        case go: {
            const std::size_t at = package.find('@');
            return at == std::string_view::npos || package.substr(at) == "@latest";
        }
        case gem:
            return package.find(':') == std::string_view::npos;
        case cargo:
            return package.find('@') == std::string_view::npos;
        case dnf:
        case zypper:
        case pacman:
        case bundler:
        case composer:
        case conda:
        case maven:
            return false;
    }
    return false;
}

std::vector<CacheLeft> caches_left(const std::vector<ScriptCommand>& commands, const CacheSurroundings& around) {
    return CacheFinder(commands, around).run();
}

std::vector<std::string> build_tools_left(const std::vector<ScriptCommand>& commands) {
    using enum PackageManager;
    std::vector<std::string> out;
    for (const ScriptCommand& command : commands) {
        const auto manager = manager_of(command.program());
        if (!manager || (*manager != apt && *manager != apk && *manager != dnf && *manager != zypper)) continue;
        const Words given = operands(*manager, command.words);
        const std::string_view verb = given.empty() ? std::string_view() : given.front();
        // What is removed need not be what was installed by its name: "apk del .build-deps", autoremove.
        if (is_one_of(verb, {"purge", "remove", "autoremove", "del", "erase"})) out.clear();
        if (!installs(*manager, verb, command.words)) continue;
        for (const std::string& package : std::span(given).subspan(1)) {
            if (is_build_tool(package) && std::ranges::find(out, package) == out.end()) out.push_back(package);
        }
    }
    return out;
}

}  // namespace cooper::dockerfile
