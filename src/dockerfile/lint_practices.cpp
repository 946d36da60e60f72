#include "dockerfile/lint_practices.hpp"

#include "base/text.hpp"
#include "dockerfile/image_traits.hpp"
#include "dockerfile/package_commands.hpp"
#include "llb/state.hpp"
#include "oci/reference.hpp"

#include <algorithm>
#include <fmt/format.h>
#include <set>

namespace cooper::dockerfile {

namespace {

// From here on a context is large: copying and comparing it is felt.
constexpr std::uint64_t kManyFiles = 1000;
constexpr std::uint64_t kManyBytes = 20'000'000;

bool is_whole_context(std::string_view source) {
    const std::string clean = llb::clean_path(source);
    return clean == "." || clean == "/" || clean == "*" || clean == "/*";
}

// Sources of a COPY or ADD from the main context; null for anything else.
const FileSources* context_sources(const Command& command) {
    if (const auto* copy = std::get_if<CopyCommand>(&command)) return copy->from.empty() ? &copy->files : nullptr;
    if (const auto* add = std::get_if<AddCommand>(&command)) return &add->files;
    return nullptr;
}

bool copies_whole_context(const Command& command) {
    const FileSources* files = context_sources(command);
    return files != nullptr && std::ranges::any_of(files->paths, is_whole_context);
}

std::vector<Mount> mounts_of(const RunCommand& run) {
    std::vector<Mount> out;
    for (const std::string& flag : run.mount_flags) {
        auto mount =
            parse_mount(flag, [](std::string_view value) -> Result<std::string> { return std::string(value); });
        if (mount) out.push_back(std::move(*mount));
    }
    return out;
}

// "COPY . ." cut to what fits into a sentence.
std::string shown(const Instruction& instruction) {
    constexpr std::size_t kLongest = 60;
    if (instruction.original.size() <= kLongest) return instruction.original;
    return instruction.original.substr(0, kLongest) + "…";
}

class PracticeChecker {
public:
    PracticeChecker(Linter& linter, const Practices& practices) : linter_(linter), practices_(practices) {
        for (std::size_t i = 0; i < practices.stages.size(); ++i) {
            const std::string& name = practices.stages[i].stage->name;
            if (!name.empty()) by_name_[name] = i;
            facts_.push_back(facts_of(i));
        }
        // The stages whose layers are in the result.
        std::optional<std::size_t> at = practices.target;
        while (at && shipped_.insert(*at).second) at = practices.stages[*at].base;
    }

    void run() {
        for (std::size_t i = 0; i < practices_.stages.size(); ++i) {
            const PracticeStage& stage = practices_.stages[i];
            if (stage.replaced) continue;
            check_base(stage);
            check_stage(i);
        }
    }

private:
    // An installation behind the whole context.
    struct LateInstall {
        PackageManager manager;
        std::string shown;
        int line;
    };

    static bool is_of_system(PackageManager manager) {
        using enum PackageManager;
        return manager == apt || manager == apk || manager == dnf || manager == zypper || manager == pacman;
    }

    // What a stage hands on to those built on it.
    struct Facts {
        std::size_t root = 0;            // the stage that begins with an image
        std::vector<std::string> known;  // "PIP_NO_CACHE_DIR=1": the variables that matter here
        bool is_static = false;          // says that it links statically, or against musl
    };

    [[nodiscard]] Facts facts_of(std::size_t index) const {
        const PracticeStage& stage = practices_.stages[index];
        Facts facts = base_facts(index);
        if (!stage.base) facts.root = index;
        for (const Instruction& instruction : stage.stage->commands) {
            take_environment(instruction.command, facts.known);
            facts.is_static = facts.is_static || says_static(instruction.original);
        }
        return facts;
    }

    // A stage stands behind the one it is built on.
    [[nodiscard]] Facts base_facts(std::size_t index) const {
        const auto base = practices_.stages[index].base;
        return base && *base < facts_.size() ? facts_[*base] : Facts{};
    }

    void report(LintRule rule, std::string message, const Instruction& at, std::string instead) {
        linter_.report(LintWarning{rule, std::move(message), at.location, std::move(instead)}, at.comments);
    }

    // --- FROM ---

    void check_base(const PracticeStage& stage) {
        if (stage.base || stage.base_name == "scratch") return;
        const auto image = oci::Reference::parse_untagged(stage.base_name);
        if (!image) return;
        check_version(*image, stage.base_name, stage.stage->location, stage.stage->comments);
    }

    void check_version(const oci::Reference& image, std::string_view written, const Lines& lines,
                       const std::vector<std::string>& comments) {
        if (!image.digest().empty() || (!image.tag().empty() && image.tag() != "latest")) return;
        if (is_named_context(image, written)) return;
        const std::string name = image.familiar_repository();
        linter_.report(
            LintWarning{LintRule::cooper_unpinned_base, lint_message::cooper_unpinned_base(written, image.tag()), lines,
                        fmt::format("name a version, {}:VERSION, or a digest, {}@sha256:…", name, name)},
            comments);
    }

    [[nodiscard]] bool is_named_context(const oci::Reference& image, std::string_view written) const {
        return std::ranges::any_of(practices_.named_contexts, [&](const auto& context) {
            const std::string_view name = std::string_view(context.first).substr(0, context.first.find("::"));
            return name == written || name == image.familiar() || name == image.with_default_tag().canonical();
        });
    }

    // --- instructions ---

    void check_stage(std::size_t index) {
        const Stage& stage = *practices_.stages[index].stage;
        const bool shipped = shipped_.contains(index);
        CacheSurroundings around;
        around.environment = base_facts(index).known;
        std::vector<std::string> tools;
        const Instruction* tools_at = nullptr;
        const Instruction* whole_copy = nullptr;
        std::set<PackageManager> installed;  // before the whole context came
        std::optional<LateInstall> late;
        for (const Instruction& instruction : stage.commands) {
            if (copies_whole_context(instruction.command)) {
                if (whole_copy == nullptr) whole_copy = &instruction;
                check_ignore_file(instruction);
            }
            if (const auto* copy = std::get_if<CopyCommand>(&instruction.command))
                check_copy_from(index, *copy, instruction);
            take_environment(instruction.command, around.environment);
            const auto* run = std::get_if<RunCommand>(&instruction.command);
            if (run == nullptr) continue;
            const std::vector<ScriptCommand> commands = run_commands(*run);
            around.mounts.clear();
            for (const Mount& mount : mounts_of(*run)) {
                if (mount.type == MountKind::cache || mount.type == MountKind::tmpfs)
                    around.mounts.push_back(mount.target);
            }
            check_order(instruction, commands, whole_copy != nullptr, installed, around, late);
            check_versions(instruction, commands);
            if (!shipped) continue;
            check_caches(instruction, commands, around);
            for (std::string& tool : build_tools_left(commands)) {
                if (std::ranges::find(tools, tool) == tools.end()) tools.push_back(std::move(tool));
                if (tools_at == nullptr) tools_at = &instruction;
            }
        }
        if (late) {
            report(LintRule::cooper_copy_before_install,
                   lint_message::cooper_copy_before_install(shown(*whole_copy), late->shown, late->line), *whole_copy,
                   before_copy(late->manager));
        }
        if (tools_at != nullptr) {
            report(LintRule::cooper_build_tools, lint_message::cooper_build_tools(join(tools, ", ")), *tools_at,
                   "compile in a stage of its own, FROM … AS build, and take its results with COPY --from=build; or "
                   "remove the tools in the same RUN");
        }
    }

    static void take_environment(const Command& command, std::vector<std::string>& known) {
        const auto take = [&](const std::string& key, const std::string& value) {
            if (key == "PIP_NO_CACHE_DIR") known = {key + "=" + value};
        };
        if (const auto* env = std::get_if<EnvCommand>(&command)) {
            for (const KeyValue& pair : env->pairs) take(pair.key, pair.value);
        } else if (const auto* arg = std::get_if<ArgCommand>(&command)) {
            for (const auto& one : arg->args) take(one.key, one.value.value_or(""));
        }
    }

    void check_caches(const Instruction& instruction, const std::vector<ScriptCommand>& commands,
                      const CacheSurroundings& around) {
        for (CacheLeft& left : caches_left(commands, around)) {
            report(LintRule::cooper_package_cache, lint_message::cooper_package_cache(left.shown, left.place),
                   instruction, std::move(left.instead));
        }
    }

    void check_versions(const Instruction& instruction, const std::vector<ScriptCommand>& commands) {
        for (const ScriptCommand& command : commands) {
            const auto install = package_install(command);
            if (!install) continue;
            std::vector<std::string> unpinned;
            for (const std::string& package : install->packages) {
                if (is_unpinned(install->manager, package)) unpinned.push_back(package);
            }
            if (unpinned.empty()) continue;
            report(LintRule::cooper_unpinned_package,
                   lint_message::cooper_unpinned_package(install->shown, join(unpinned, ", ")), instruction,
                   "name the version of each package, or install from a lock file");
        }
    }

    // Of several the first is told, but one of the program's own packages before one of the system's.
    static void check_order(const Instruction& instruction, const std::vector<ScriptCommand>& commands,
                            bool context_here, std::set<PackageManager>& installed, const CacheSurroundings& around,
                            std::optional<LateInstall>& late) {
        for (const ScriptCommand& command : commands) {
            const auto install = package_install(command);
            if (!install) continue;
            if (!context_here) {
                installed.insert(install->manager);
                continue;
            }
            // With a cache mount it is quick, and a second installation prunes or adds what has just come.
            if (install->reads_sources || !around.mounts.empty() || installed.contains(install->manager)) continue;
            if (late && (!is_of_system(late->manager) || is_of_system(install->manager))) continue;
            late = LateInstall{install->manager, install->shown, instruction.location.first};
        }
    }

    static std::string before_copy(PackageManager manager) {
        using enum PackageManager;
        const auto with = [](std::string_view files) {
            return fmt::format(
                "copy what the installation reads first, COPY {} ./, install, and copy the rest after it", files);
        };
        switch (manager) {
            case pip:
                return with("requirements.txt");
            case npm:
                return with("package.json package-lock.json");
            case yarn:
                return with("package.json yarn.lock");
            case pnpm:
                return with("package.json pnpm-lock.yaml");
            case bundler:
                return with("Gemfile Gemfile.lock");
            case composer:
                return with("composer.json composer.lock");
            case go:
                return with("go.mod go.sum");
            case cargo:
                return with("Cargo.toml Cargo.lock");
            case maven:
                return with("pom.xml");
            case conda:
                return with("environment.yml");
            case apt:
            case apk:
            case dnf:
            case zypper:
            case pacman:
            case gem:
                break;
        }
        return "install first, and copy the context after it";
    }

    void check_ignore_file(const Instruction& instruction) {
        const BuildContext& context = practices_.context;
        if (context.remote || context.has_ignore_file || told_ignore_) return;
        told_ignore_ = true;
        const auto size = practices_.measure();
        if (!size) return;
        if (size->files < kManyFiles && size->bytes < kManyBytes && size->notable.empty()) return;
        const std::string_view more = size->more ? "more than " : "";
        std::vector<std::string> ignore = size->notable;
        if (ignore.empty()) ignore.emplace_back("…");
        report(LintRule::cooper_no_ignore_file,
               lint_message::cooper_no_ignore_file(std::string(more) + human_size(size->bytes),
                                                   std::string(more) + std::to_string(size->files),
                                                   join(size->notable, ", ")),
               instruction,
               "beside the Dockerfile a file .dockerignore, with one line for each thing the image does not need: " +
                   join(ignore, ", "));
    }

    // --- COPY --from ---

    void check_copy_from(std::size_t index, const CopyCommand& copy, const Instruction& instruction) {
        if (copy.from.empty()) return;
        std::optional<std::size_t> source;
        if (const auto number = parse_int(copy.from)) {
            if (*number < 0 || static_cast<std::uint64_t>(*number) >= practices_.stages.size()) return;
            source = static_cast<std::size_t>(*number);
            check_index(copy.from, *practices_.stages[*source].stage, instruction);
        } else if (const auto named = by_name_.find(to_lower(copy.from)); named != by_name_.end()) {
            source = named->second;
        }
        if (source) {
            check_bases(index, *source, instruction);
        } else if (const auto image = oci::Reference::parse_untagged(copy.from)) {
            check_version(*image, copy.from, instruction.location, instruction.comments);
        }
    }

    void check_index(const std::string& index, const Stage& stage, const Instruction& instruction) {
        std::string instead = fmt::format("name the stage, FROM {} AS build (line {}), and write --from=build",
                                          stage.base_name, stage.location.first);
        if (!stage.name.empty()) instead = "write --from=" + stage.name;
        report(LintRule::cooper_stage_by_index, lint_message::cooper_stage_by_index(index), instruction,
               std::move(instead));
    }

    void check_bases(std::size_t index, std::size_t source, const Instruction& instruction) {
        const PracticeStage& from = practices_.stages[facts_[source].root];
        const PracticeStage& to = practices_.stages[facts_[index].root];
        if (from.replaced || to.replaced || !told_bases_.insert({index, source}).second) return;
        const auto from_image = oci::Reference::parse_untagged(from.base_name);
        const auto to_image = oci::Reference::parse_untagged(to.base_name);
        if (!from_image || !to_image) return;
        const std::string how = difference(image_traits(*from_image), image_traits(*to_image), source);
        if (how.empty()) return;
        report(LintRule::cooper_base_mismatch, lint_message::cooper_base_mismatch(from.base_name, to.base_name, how),
               instruction,
               fmt::format("build and run on one base: begin both stages with images of the same version and "
                           "distribution as {}",
                           to.base_name));
    }

    [[nodiscard]] std::string difference(const ImageTraits& from, const ImageTraits& to, std::size_t source) const {
        const bool same = from.repository == to.repository;
        if (same && !same_version(from.version, to.version)) return "the versions differ";
        const bool libc_differs = from.libc != Libc::unknown && to.libc != Libc::unknown && from.libc != to.libc;
        // Of other images only those whose product is a program, and only onto a bare system: files for a
        // web server run nowhere.
        if (libc_differs && (same || (makes_programs(from) && is_bare(to) && !facts_[source].is_static))) {
            return from.libc == Libc::glibc ? "one has glibc, the other musl" : "one has musl, the other glibc";
        }
        if (from.debian > to.debian && to.debian > 0 && (same || makes_programs(from)) && !facts_[source].is_static) {
            return fmt::format("Debian {} has a newer glibc than Debian {}", from.debian, to.debian);
        }
        return {};
    }

    static bool makes_programs(const ImageTraits& image) {
        return std::ranges::any_of(
            std::initializer_list<std::string_view>{"debian", "ubuntu", "gcc", "rust", "golang", "python", "swift",
                                                    "haskell", "buildpack-deps"},
            [&](std::string_view name) { return image.repository == "docker.io/library/" + std::string(name); });
    }

    static bool is_bare(const ImageTraits& image) {
        return image.repository == "docker.io/library/alpine" || image.repository == "docker.io/library/debian" ||
               image.repository == "docker.io/library/ubuntu";
    }

    static bool says_static(std::string_view text) {
        return std::ranges::any_of(std::initializer_list<std::string_view>{"CGO_ENABLED=0", "CGO_ENABLED 0", "-static",
                                                                           "musl", "crt-static", "netgo"},
                                   [&](std::string_view word) { return text.find(word) != std::string_view::npos; });
    }

    Linter& linter_;
    const Practices& practices_;
    std::map<std::string, std::size_t> by_name_;
    std::vector<Facts> facts_;  // by stage
    std::set<std::size_t> shipped_;
    std::set<std::pair<std::size_t, std::size_t>> told_bases_;
    bool told_ignore_ = false;
};

}  // namespace

void lint_practices(Linter& linter, const Practices& practices) { PracticeChecker(linter, practices).run(); }

}  // namespace cooper::dockerfile
