// Scripts as commands, what package managers leave, and the checks of our own.
#include "base/text.hpp"
#include "dockerfile/image_traits.hpp"
#include "dockerfile/lint_practices.hpp"
#include "dockerfile/package_commands.hpp"
#include "dockerfile/parse.hpp"
#include "dockerfile/script_commands.hpp"

#include <gtest/gtest.h>

namespace cooper::dockerfile {
namespace {

// "pip install x | A=1 make": commands with their assignments.
std::string commands_text(std::string_view script) {
    std::vector<std::string> out;
    for (const ScriptCommand& command : script_commands(script)) {
        std::vector<std::string> words = command.assignments;
        words.insert(words.end(), command.words.begin(), command.words.end());
        out.push_back(join(words, " "));
    }
    return join(out, " | ");
}

TEST(ScriptCommands, Splits) {
    EXPECT_EQ(commands_text("apt-get update && apt-get install -y gcc; rm -rf /x"),
              "apt-get update | apt-get install -y gcc | rm -rf /x");
    EXPECT_EQ(commands_text("a 'b c' \"d \\\" e\" f\\ g"), "a b c d \" e f g");
    EXPECT_EQ(commands_text("a $(b; c) \"${d:-x y}\" `e`"), "a $(b; c) ${d:-x y} `e`");
    EXPECT_EQ(commands_text("a >/dev/null 2>&1 <in && b >> c"), "a | b");
    EXPECT_EQ(commands_text("a # not b\nc"), "a | c");
    EXPECT_EQ(commands_text("if [ -f x ]; then a; else b; fi"), "[ -f x ] | a | b | fi");
    EXPECT_EQ(commands_text("(cd /x && make)"), "cd /x | make");
}

TEST(ScriptCommands, TakesOffWrappers) {
    EXPECT_EQ(commands_text("sudo -E /usr/bin/apt-get update"), "apt-get update");
    EXPECT_EQ(commands_text("X=1 env Y=2 pip install a"), "X=1 Y=2 pip install a");
    EXPECT_EQ(commands_text("python3.11 -m pip install a"), "pip install a");
    EXPECT_EQ(commands_text("export A=1 B"), "A=1 export A=1 B");
}

TEST(ScriptCommands, BrokenScriptsEnd) {
    EXPECT_EQ(commands_text("a 'b"), "a b");
    EXPECT_EQ(commands_text("a \"b\\"), "a b\\");
    EXPECT_EQ(commands_text("a $("), "a $(");
    EXPECT_EQ(commands_text("\\"), "");
    EXPECT_EQ(commands_text(";;&&||"), "");
}

std::vector<ScriptCommand> run_of(const std::string& text) {
    const auto file = parse("FROM scratch\n" + text, "Dockerfile");
    EXPECT_TRUE(file);
    const auto list = parse_stages(*file);
    EXPECT_TRUE(list) << (list ? "" : list.error().to_string());
    return run_commands(std::get<RunCommand>(list->stages.at(0).commands.at(0).command));
}

TEST(RunCommands, AllForms) {
    EXPECT_EQ(run_of("RUN a && b\n").size(), 2U);
    EXPECT_EQ(run_of("RUN [\"/bin/bash\", \"-ec\", \"a; b\"]\n").size(), 2U);
    EXPECT_EQ(run_of("RUN [\"pip\", \"install\", \"x;y\"]\n").at(0).words,
              (std::vector<std::string>{"pip", "install", "x;y"}));
    EXPECT_EQ(run_of("RUN <<EOF\na\nb\nEOF\n").size(), 2U);
    EXPECT_EQ(run_of("RUN bash -e <<EOF\na\nEOF\n").at(1).words, std::vector<std::string>{"a"});
    EXPECT_TRUE(run_of("RUN <<EOF\n#!/usr/bin/env python3\npip install x\nEOF\n").empty());
}

// Places left behind, joined.
std::string left(std::string_view script, const CacheSurroundings& around = {}) {
    std::vector<std::string> out;
    for (const CacheLeft& one : caches_left(script_commands(script), around)) out.push_back(one.place);
    return join(out, " ");
}

TEST(CachesLeft, Apt) {
    EXPECT_EQ(left("apt-get update && apt-get install -y x"), "/var/lib/apt/lists");
    EXPECT_EQ(left("apt-get install -y x"), "");
    EXPECT_EQ(left("apt-get update && apt-get install -y x && rm -rf /var/lib/apt/lists/*"), "");
    EXPECT_EQ(left("apt-get update; rm -rf /var/lib/apt/lists/* /tmp/*"), "");
    EXPECT_EQ(left("apt-get update; rm -rf /var/cache/apt"), "/var/lib/apt/lists");
    EXPECT_EQ(left("apt update; find /var/lib/apt/lists -type f -delete"), "");
    EXPECT_EQ(left("apt-get update", {.mounts = {"/var/lib/apt"}, .environment = {}}), "");
    EXPECT_EQ(left("apt-get update", {.mounts = {"/var/cache/apt"}, .environment = {}}), "/var/lib/apt/lists");
}

TEST(CachesLeft, OthersOfTheSystem) {
    EXPECT_EQ(left("apk add curl"), "/var/cache/apk");
    EXPECT_EQ(left("apk add --no-cache curl"), "");
    EXPECT_EQ(left("apk --no-cache add curl"), "");
    EXPECT_EQ(left("apk add curl && rm -rf /var/cache/apk/*"), "");
    EXPECT_EQ(left("dnf -y install x"), "/var/cache/dnf");
    EXPECT_EQ(left("dnf -y install x && dnf clean all"), "");
    EXPECT_EQ(left("yum install -y x && rm -rf /var/cache/yum"), "");
    EXPECT_EQ(left("zypper in -y x"), "/var/cache/zypp");
    EXPECT_EQ(left("pacman -Syu --noconfirm x && pacman -Scc --noconfirm"), "");
}

TEST(CachesLeft, Languages) {
    EXPECT_EQ(left("pip install x"), "/root/.cache/pip");
    EXPECT_EQ(left("pip3.11 install --no-cache-dir x"), "");
    EXPECT_EQ(left("PIP_NO_CACHE_DIR=1 pip install x"), "");
    EXPECT_EQ(left("export PIP_NO_CACHE_DIR=1; pip install x"), "");
    EXPECT_EQ(left("pip install x", {.mounts = {}, .environment = {"PIP_NO_CACHE_DIR=1"}}), "");
    EXPECT_EQ(left("pip install x", {.mounts = {}, .environment = {"PIP_NO_CACHE_DIR=0"}}), "/root/.cache/pip");
    EXPECT_EQ(left("pip install x", {.mounts = {"/root/.cache"}, .environment = {}}), "");
    EXPECT_EQ(left("pip install x && rm -rf ~/.cache"), "");
    EXPECT_EQ(left("pipx install x"), "");
    EXPECT_EQ(left("npm ci"), "/root/.npm");
    EXPECT_EQ(left("npm ci && npm cache clean --force"), "");
    EXPECT_EQ(left("npm run build"), "");
    EXPECT_EQ(left("yarn --frozen-lockfile"), "/usr/local/share/.cache/yarn");
    EXPECT_EQ(left("yarn --version"), "");
    EXPECT_EQ(left("conda install -y x && conda clean -afy"), "");
}

TEST(PackageInstall, NamesAndLists) {
    const auto one = [](std::string_view script) { return package_install(script_commands(script).at(0)); };
    EXPECT_EQ(one("pip install -r requirements.txt flask")->packages, std::vector<std::string>{"flask"});
    EXPECT_TRUE(one("pip install -r requirements.txt")->packages.empty());
    EXPECT_TRUE(one("pip install .")->reads_sources);
    EXPECT_TRUE(one("pip install -e .")->reads_sources);
    EXPECT_TRUE(one("apt-get install -y $(cat packages)")->reads_sources);
    EXPECT_EQ(one("apk add -t .deps gcc")->packages, std::vector<std::string>{"gcc"});
    EXPECT_EQ(one("go mod download")->shown, "go mod download");
    EXPECT_FALSE(one("go mod tidy"));
    EXPECT_FALSE(one("go build ./..."));
    EXPECT_FALSE(one("npm test"));
    EXPECT_TRUE(one("gem install -v 1.2 rake")->packages.empty());
}

TEST(PackageInstall, Versions) {
    using enum PackageManager;
    EXPECT_TRUE(is_unpinned(pip, "flask"));
    EXPECT_FALSE(is_unpinned(pip, "flask==2.3.2"));
    EXPECT_FALSE(is_unpinned(pip, "pip"));
    EXPECT_TRUE(is_unpinned(npm, "@scope/x"));
    EXPECT_FALSE(is_unpinned(npm, "@scope/x@1.2"));
    EXPECT_TRUE(is_unpinned(npm, "x@latest"));
    EXPECT_TRUE(is_unpinned(apt, "curl"));
    EXPECT_FALSE(is_unpinned(apt, "curl=7.88"));
    EXPECT_FALSE(is_unpinned(apk, "curl~8"));
    EXPECT_TRUE(is_unpinned(go, "example.com/x@latest"));
}

TEST(BuildTools, UnlessRemoved) {
    const auto tools = [](std::string_view script) { return join(build_tools_left(script_commands(script)), " "); };
    EXPECT_EQ(tools("apt-get install -y curl gcc libpq-dev"), "gcc libpq-dev");
    EXPECT_EQ(tools("apt-get install -y gcc && make && apt-get purge -y gcc"), "");
    EXPECT_EQ(tools("apk add --virtual .b build-base && make && apk del .b"), "");
    EXPECT_EQ(tools("dnf install -y gcc-c++ openssl-devel"), "gcc-c++ openssl-devel");
    EXPECT_EQ(tools("apt-get install -y python3 libpq5"), "");
}

TEST(ImageTraits, OfNames) {
    const auto of = [](const std::string& name) { return image_traits(*oci::Reference::parse_untagged(name)); };
    EXPECT_EQ(of("python:3.11-slim-bookworm").version, "3.11");
    EXPECT_EQ(of("python:3.11-slim-bookworm").debian, 12);
    EXPECT_EQ(of("python:3.11-alpine3.19").libc, Libc::musl);
    EXPECT_EQ(of("alpine").libc, Libc::musl);
    EXPECT_EQ(of("debian:11-slim").debian, 11);
    EXPECT_EQ(of("golang:1.22").libc, Libc::glibc);
    EXPECT_EQ(of("example.com/x:latest").libc, Libc::unknown);
    EXPECT_TRUE(same_version("3", "3.11"));
    EXPECT_FALSE(same_version("3.9", "3.11"));
    EXPECT_FALSE(same_version("3.1", "3.11"));
}

// "Rule:line …" of what is found.
std::string found(const std::string& text, const std::string& options = "", const std::string& target_name = "",
                  const std::optional<frontend::ContextSize>& size = {}, bool has_ignore_file = false) {
    const auto file = parse(text, "Dockerfile");
    EXPECT_TRUE(file);
    const auto list = parse_stages(*file);
    EXPECT_TRUE(list) << (list ? "" : list.error().to_string());
    LintConfig config = *LintConfig::parse(options);
    config.scope = LintScope::check;
    Linter linter(std::move(config));
    BuildContext context;
    context.has_ignore_file = has_ignore_file;
    const std::map<std::string, std::string> named = {{"known", "local:known"}};
    Practices practices{
        .stages = {}, .target = 0, .context = context, .named_contexts = named, .measure = [&] { return size; }};
    for (const Stage& stage : list->stages) {
        PracticeStage one{.stage = &stage, .base_name = stage.base_name, .base = {}, .replaced = false};
        for (std::size_t i = 0; i < practices.stages.size(); ++i) {
            if (practices.stages[i].stage->name == stage.base_name) one.base = i;
        }
        practices.target =
            stage.name == target_name || target_name.empty() ? practices.stages.size() : practices.target;
        practices.stages.push_back(one);
    }
    lint_practices(linter, practices);
    std::vector<std::string> out;
    for (const LintWarning& warning : linter.warnings()) {
        EXPECT_FALSE(warning.instead.empty());
        out.push_back(std::string(lint_rule_info(warning.rule).name) + ":" + std::to_string(warning.lines.first));
    }
    return join(out, " ");
}

TEST(Practices, StageByIndex) {
    EXPECT_EQ(found("FROM a:1\nFROM b:1\nCOPY --from=0 x y\n"), "CooperStageByIndex:3");
    EXPECT_EQ(found("FROM a:1 AS x\nFROM b:1\nCOPY --from=x x y\n"), "");
    EXPECT_EQ(found("FROM a:1\nFROM b:1\nCOPY --from=0 x y\n", "skip=CooperStageByIndex"), "");
    EXPECT_EQ(found("FROM a:1\nFROM b:1\n# check=skip=CooperStageByIndex\nCOPY --from=0 x y\n"), "");
    EXPECT_EQ(found("FROM a:1\nFROM b:1\nCOPY --from=0 x y\n", "skip=all"), "");
}

TEST(Practices, CopyBeforeInstall) {
    EXPECT_EQ(found("FROM a:1\nCOPY . .\nRUN npm ci && npm cache clean\n"), "CooperCopyBeforeInstall:2");
    EXPECT_EQ(found("FROM a:1\nADD ./ /x\nRUN go mod download\n"), "CooperCopyBeforeInstall:2");
    EXPECT_EQ(found("FROM a:1\nCOPY package.json .\nRUN npm ci && npm cache clean\nCOPY . .\n"), "");
    EXPECT_EQ(found("FROM a:1\nCOPY package.json .\nRUN npm ci && npm cache clean\nCOPY . .\n"
                    "RUN npm ci --omit=dev && npm cache clean\n"),
              "");
    EXPECT_EQ(found("FROM a:1\nCOPY . .\nRUN pip install --no-cache-dir .\n"), "");
    EXPECT_EQ(found("FROM a:1\nCOPY . .\nRUN --mount=type=cache,target=/root/.npm npm ci\n"), "");
    EXPECT_EQ(found("FROM a:1 AS x\nFROM a:1\nCOPY --from=x . .\nRUN go mod download\n"), "");
}

TEST(Practices, PackageCacheOnlyInWhatIsShipped) {
    const std::string text = "FROM a:1 AS build\nRUN apt-get update\nFROM a:1 AS run\nRUN pip install x\n";
    EXPECT_EQ(found(text), "CooperPackageCache:4");
    EXPECT_EQ(found(text, "", "build"), "CooperPackageCache:2");
    EXPECT_EQ(found("FROM a:1 AS base\nRUN apt-get update\nFROM base\n"), "CooperPackageCache:2");
    EXPECT_EQ(found("FROM a:1 AS base\nENV PIP_NO_CACHE_DIR=1\nFROM base\nRUN pip install x\n"), "");
}

TEST(Practices, UnpinnedBase) {
    EXPECT_EQ(found("FROM a\n"), "CooperUnpinnedBase:1");
    EXPECT_EQ(found("FROM a:latest\n"), "CooperUnpinnedBase:1");
    EXPECT_EQ(found("FROM a:1 AS x\nFROM x\nFROM scratch\nFROM known\n"), "");
    EXPECT_EQ(found("FROM a@sha256:" + std::string(64, 'a') + "\n"), "");
    EXPECT_EQ(found("FROM a:1\nCOPY --from=tools /x /\nCOPY --from=known /x /\n"), "CooperUnpinnedBase:2");
}

TEST(Practices, UnpinnedPackageOnlyWhenAsked) {
    const std::string text = "FROM a:1\nRUN pip install --no-cache-dir flask\n";
    EXPECT_EQ(found(text), "");
    EXPECT_EQ(found(text, "experimental=CooperUnpinnedPackage"), "CooperUnpinnedPackage:2");
    EXPECT_EQ(found(text, "experimental=all"), "CooperUnpinnedPackage:2");
    EXPECT_EQ(found(text, "skip=CooperUnpinnedPackage;experimental=all"), "");
}

TEST(Practices, NoIgnoreFile) {
    const std::string text = "FROM a:1\nCOPY . .\nCOPY . .\n";
    EXPECT_EQ(found(text), "");
    EXPECT_EQ(found(text, "", "", frontend::ContextSize{.files = 10, .bytes = 10, .more = false, .notable = {}}), "");
    const frontend::ContextSize large{.files = 5000, .bytes = 10, .more = false, .notable = {}};
    EXPECT_EQ(found(text, "", "", large), "CooperNoIgnoreFile:2");
    EXPECT_EQ(found(text, "", "", large, true), "");
    EXPECT_EQ(found("FROM a:1\nCOPY src .\n", "", "", large), "");
    EXPECT_EQ(found(text, "", "", frontend::ContextSize{.files = 1, .bytes = 1, .more = false, .notable = {".git"}}),
              "CooperNoIgnoreFile:2");
}

TEST(Practices, BuildTools) {
    EXPECT_EQ(found("FROM a:1\nRUN apt-get install -y gcc\nRUN apt-get install -y make\n"), "CooperBuildTools:2");
    EXPECT_EQ(found("FROM a:1 AS build\nRUN apt-get install -y gcc\nFROM b:1\n"), "");
}

TEST(Practices, BaseMismatch) {
    const auto with = [](const std::string& from, const std::string& to, const std::string& step = "RUN make") {
        return found("FROM " + from + " AS build\n" + step + "\nFROM " + to + "\nCOPY --from=build /x /x\n");
    };
    EXPECT_EQ(with("python:3.11", "python:3.9-slim"), "CooperBaseMismatch:4");
    EXPECT_EQ(with("python:3.11", "python:3.11-slim"), "");
    EXPECT_EQ(with("node:18", "node:18-alpine"), "CooperBaseMismatch:4");
    EXPECT_EQ(with("node:18", "nginx:1.25-alpine"), "");
    EXPECT_EQ(with("golang:1.22", "alpine:3.19"), "CooperBaseMismatch:4");
    EXPECT_EQ(with("golang:1.22", "alpine:3.19", "RUN CGO_ENABLED=0 go build"), "");
    EXPECT_EQ(with("golang:1.22", "alpine:3.19", "ENV CGO_ENABLED=0"), "");
    EXPECT_EQ(with("gcc:13-bookworm", "debian:bullseye-slim"), "CooperBaseMismatch:4");
    EXPECT_EQ(with("debian:buster", "scratch"), "");
}

TEST(Practices, ABuildMakesThemOnlyByName) {
    LintConfig config = *LintConfig::parse("experimental=all");
    EXPECT_FALSE(config.wants_own());
    EXPECT_FALSE(config.allows(LintRule::cooper_package_cache));
    EXPECT_TRUE(config.allows(LintRule::invalid_definition_description));
    config = *LintConfig::parse("experimental=CooperPackageCache");
    EXPECT_TRUE(config.wants_own());
    EXPECT_TRUE(config.allows(LintRule::cooper_package_cache));
    EXPECT_FALSE(config.allows(LintRule::cooper_build_tools));
}

}  // namespace
}  // namespace cooper::dockerfile
