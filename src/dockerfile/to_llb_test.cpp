// Dockerfiles to LLB: the operations as text, step names, history, configuration, errors.
#include "dockerfile/to_llb.hpp"

#include "base/text.hpp"
#include "codec/base64.hpp"
#include "dockerfile/convert_context.hpp"
#include "dockerfile/convert_text.hpp"
#include "dockerfile/convert_values.hpp"
#include "dockerfile/fake_bridge.hpp"
#include "dockerfile/frontend.hpp"
#include "llb/load.hpp"
#include "llb/marshal.hpp"

#include <atomic>
#include <fmt/core.h>
#include <gtest/gtest.h>

namespace cooper::dockerfile {
namespace {

const std::string kDigest = "sha256:" + std::string(64, 'a');

ConvertOptions amd64() {
    ConvertOptions options;
    options.build_platforms = {oci::Platform{.os = "linux", .architecture = "amd64"}};
    return options;
}

Result<BuildPlan> convert(const std::string& text, const ConvertOptions& options, FakeBridge& bridge) {
    return to_llb(text, options, bridge, Stop{});
}

BuildPlan plan_of(const std::string& text, const ConvertOptions& options = amd64()) {
    FakeBridge bridge;
    auto plan = convert(text, options, bridge);
    EXPECT_TRUE(plan) << (plan ? "" : plan.error().to_string());
    return plan ? std::move(*plan) : BuildPlan{};
}

std::string error_of(const std::string& text, const ConvertOptions& options = amd64()) {
    FakeBridge bridge;
    auto plan = convert(text, options, bridge);
    return plan ? "" : plan.error().to_string();
}

std::string input_text(const std::vector<llb::Edge>& inputs, std::int64_t index) {
    if (index < 0) return "-";
    if (static_cast<std::size_t>(index) >= inputs.size()) return "step" + std::to_string(index);
    const llb::Edge& edge = inputs[static_cast<std::size_t>(index)];
    return std::to_string(edge.vertex) + (edge.output != 0 ? "." + std::to_string(edge.output) : "");
}

std::string owner_text(const std::optional<llb::ChownOpt>& owner) {
    if (!owner) return {};
    const auto one = [](const std::optional<llb::UserOpt>& user) -> std::string {
        if (!user) return "";
        if (const auto* named = std::get_if<llb::NamedUser>(&*user)) return named->name;
        if (const auto* id = std::get_if<std::uint32_t>(&*user)) return std::to_string(*id);
        return "?";
    };
    return " owner=" + one(owner->user) + ":" + one(owner->group);
}

std::string body_text(const llb::LoadedVertex& vertex) {
    std::string out;
    if (const auto* source = std::get_if<llb::SourceOp>(&vertex.op.body)) {
        out = source->identifier;
        for (const auto& [key, value] : source->attrs) out += " " + key + "=" + value;
    } else if (const auto* exec = std::get_if<llb::ExecOp>(&vertex.op.body)) {
        out = "exec " + go_plain_list(exec->meta.args) + " env=" + go_plain_list(exec->meta.env) +
              " cwd=" + exec->meta.cwd;
        if (!exec->meta.user.empty()) out += " user=" + exec->meta.user;
        if (exec->network != llb::NetMode::unset) out += fmt::format(" net={}", static_cast<int>(exec->network));
        if (exec->security == llb::SecurityMode::insecure) out += " insecure";
        for (const llb::Mount& mount : exec->mounts) {
            out += " " + input_text(vertex.inputs, mount.input) + mount.selector + ":" + mount.dest;
            if (mount.readonly) out += ":ro";
            if (mount.output >= 0 && mount.type == llb::MountType::bind) out += fmt::format(":out{}", mount.output);
            if (mount.cache) out += ":cache(" + mount.cache->id + ")";
            if (mount.tmpfs) out += fmt::format(":tmpfs({})", mount.tmpfs->size_bytes);
            if (mount.secret) out += fmt::format(":secret({},{:o})", mount.secret->id, mount.secret->mode);
            if (mount.ssh) out += fmt::format(":ssh({},{:o})", mount.ssh->id, mount.ssh->mode);
        }
        for (const llb::SecretEnv& env : exec->secret_env) out += " secret " + env.id + "->" + env.name;
    } else if (const auto* file = std::get_if<llb::FileOp>(&vertex.op.body)) {
        out = "file";
        for (const llb::FileAction& action : file->actions) {
            out += " {" + input_text(vertex.inputs, action.input);
            if (const auto* copy = std::get_if<llb::CopyAction>(&action.action)) {
                out += " copy " + input_text(vertex.inputs, action.secondary_input) + copy->src + " " + copy->dest;
                if (copy->mode >= 0) out += fmt::format(" mode={:o}", copy->mode);
                if (!copy->mode_str.empty()) out += " mode=" + copy->mode_str;
                if (copy->attempt_unpack) out += " unpack";
                if (!copy->include_patterns.empty()) out += " include=" + go_plain_list(copy->include_patterns);
                if (!copy->exclude_patterns.empty()) out += " exclude=" + go_plain_list(copy->exclude_patterns);
                if (!copy->required_paths.empty()) out += " required=" + go_plain_list(copy->required_paths);
                out += owner_text(copy->owner);
            } else if (const auto* dir = std::get_if<llb::MkDirAction>(&action.action)) {
                out += fmt::format(" mkdir {} {:o}", dir->path, dir->mode) + owner_text(dir->owner);
            } else if (const auto* made = std::get_if<llb::MkFileAction>(&action.action)) {
                out += fmt::format(" mkfile {} {:o} {}", made->path, made->mode, go_quote(made->data));
            }
            out += "}";
        }
    } else if (std::holds_alternative<llb::MergeOp>(vertex.op.body)) {
        out = "merge";
        for (std::size_t i = 0; i < vertex.inputs.size(); ++i) {
            out += " " + input_text(vertex.inputs, static_cast<std::int64_t>(i));
        }
    }
    return out;
}

// One line per operation: "number name | what".
std::string dump(const BuildPlan& plan) {
    auto graph = llb::load(plan.definition);
    EXPECT_TRUE(graph) << (graph ? "" : graph.error().to_string());
    if (!graph) return {};
    std::string out;
    for (std::size_t i = 0; i < graph->vertices.size(); ++i) {
        const llb::LoadedVertex& vertex = graph->vertices[i];
        out += fmt::format("{} {} | {}\n", i, vertex.name, body_text(vertex));
    }
    return out;
}

std::vector<std::string> history_of(const BuildPlan& plan) {
    std::vector<std::string> out;
    for (const oci::HistoryEntry& entry : plan.image.history) {
        out.push_back((entry.empty_layer ? "- " : "+ ") + entry.created_by);
    }
    return out;
}

using Lines_ = std::vector<std::string>;

const std::string kAlpine = "docker-image://docker.io/library/alpine:3@" + kDigest;

TEST(ToLlb, RunAndCopy) {
    const BuildPlan plan = plan_of(
        "FROM alpine:3\n"
        "WORKDIR /src\n"
        "COPY go.mod main.go ./\n"
        "RUN echo \"$A\" > x\n");
    EXPECT_EQ(dump(plan),
              "0 [1/4] FROM docker.io/library/alpine:3@" + kDigest + " | " + kAlpine +
                  "\n"
                  "1 [2/4] WORKDIR /src | file {0 mkdir /src 755}\n"
                  "2 [internal] load build context | local://context local.followpaths=[\"go.mod\",\"main.go\"] "
                  "local.sharedkeyhint=context\n"
                  "3 [3/4] COPY go.mod main.go ./ | file {1 copy 2/go.mod /src/} {step2 copy 2/main.go /src/}\n"
                  "4 [4/4] RUN echo \"base\" > x | exec [/bin/sh -c echo \"$A\" > x] env=[PATH=/bin A=base] cwd=/src "
                  "3:/:out0\n");
    EXPECT_EQ(history_of(plan), (Lines_{"+ base", "+ WORKDIR /src", "+ COPY go.mod main.go ./ # buildkit",
                                        "+ RUN /bin/sh -c echo \"$A\" > x # buildkit"}));
    EXPECT_EQ(plan.image.history.back().comment, "buildkit.dockerfile.v0");
    EXPECT_EQ(plan.image.config.working_dir, "/src");
    EXPECT_EQ(plan.context_paths, (std::set<std::string>{"/go.mod", "/main.go"}));
}

TEST(ToLlb, OnlyReachableStagesAreBuilt) {
    FakeBridge bridge;
    ConvertOptions options = amd64();
    options.target = "OUT";
    const std::string text =
        "FROM nowhere:1 AS unused\nRUN x\n"
        "FROM alpine:3 AS builder\nRUN make\n"
        "FROM scratch AS out\nCOPY --from=builder /bin/app /app\n";
    const auto plan = convert(text, options, bridge);
    ASSERT_TRUE(plan) << plan.error().to_string();
    EXPECT_EQ(dump(*plan),
              "0 [builder 1/2] FROM docker.io/library/alpine:3@" + kDigest + " | " + kAlpine +
                  "\n"
                  "1 [builder 2/2] RUN make | exec [/bin/sh -c make] env=[PATH=/bin A=base] cwd=/ 0:/:out0\n"
                  "2 [out 1/1] COPY --from=builder /bin/app /app | file {- copy 1/bin/app /app}\n");
    EXPECT_EQ(bridge.log, (Lines_{"[internal] load metadata for docker.io/library/alpine:3"}));
    EXPECT_EQ(plan->image.config.env, (Lines_{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}));
    EXPECT_EQ(plan->target_name, "out");
}

TEST(ToLlb, ArgumentsHaveScopes) {
    ConvertOptions options = amd64();
    options.build_args = {{"GIVEN", "g"}, {"HTTP_PROXY", "p"}, {"FOREIGN", "f"}};
    const BuildPlan plan = plan_of(
        "ARG VERSION=3\n"
        "FROM alpine:${VERSION}\n"
        "ARG VERSION\n"
        "ARG GIVEN=d OTHER=$GIVEN TARGETARCH UNSET\n"
        "ENV B=$OTHER\n"
        "RUN x\n",
        options);
    const auto graph = llb::load(plan.definition);
    ASSERT_TRUE(graph);
    const auto& exec = std::get<llb::ExecOp>(graph->vertices.back().op.body);
    EXPECT_EQ(exec.meta.env,
              (Lines_{"PATH=/bin", "A=base", "VERSION=3", "GIVEN=g", "OTHER=g", "TARGETARCH=amd64", "B=g"}));
    EXPECT_EQ(exec.meta.proxy_env, (llb::ProxyEnv{.http_proxy = "p"}));
    EXPECT_EQ(history_of(plan),
              (Lines_{"+ base", "- ARG VERSION=3", "- ARG GIVEN=g OTHER=g TARGETARCH=amd64 UNSET", "- ENV B=g",
                      "+ RUN |5 VERSION=3 GIVEN=g OTHER=g TARGETARCH=amd64 UNSET= /bin/sh -c x # buildkit"}));
    EXPECT_EQ(plan.image.config.env, (Lines_{"PATH=/bin", "A=base", "B=g"}));
}

TEST(ToLlb, Mounts) {
    const BuildPlan plan = plan_of(
        "FROM alpine:3 AS a\n"
        "FROM alpine:3\n"
        "WORKDIR /w\n"
        "RUN --mount=type=cache,target=/root/.cache,uid=5 --mount=target=src,source=s "
        "--mount=type=bind,from=a,target=/a,rw --mount=type=tmpfs,target=/t,size=1m "
        "--mount=type=secret,id=tok,env=TOK --mount=type=secret,id=key,required --mount=type=ssh make $TOK\n");
    // Both FROM are one operation; the name written last stays, as in BuildKit.
    EXPECT_EQ(dump(plan),
              "0 [a 1/1] FROM docker.io/library/alpine:3@" + kDigest + " | " + kAlpine +
                  "\n"
                  "1 [stage-1 2/3] WORKDIR /w | file {0 mkdir /w 755}\n"
                  "2 [internal] settings cache mount permissions | file {- mkdir /cache 755 owner=5:0}\n"
                  "3 [internal] load build context | local://context local.followpaths=[\"s\"] "
                  "local.sharedkeyhint=context\n"
                  "4 [stage-1 3/3] RUN --mount=type=cache,target=/root/.cache,uid=5 --mount=target=src,source=s "
                  "--mount=type=bind,from=a,target=/a,rw --mount=type=tmpfs,target=/t,size=1m "
                  "--mount=type=secret,id=tok,env=TOK --mount=type=secret,id=key,required --mount=type=ssh make **** "
                  "| exec [/bin/sh -c make $TOK] env=[PATH=/bin A=base SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0] "
                  "cwd=/w 1:/:out0 0:/a 2/cache:/root/.cache:cache(//root/.cache) -:/t:tmpfs(1048576) 3/s:/w/src:ro "
                  "-:/run/secrets/key:secret(key,400) -:/run/buildkit/ssh_agent.0:ssh(,600) secret tok->TOK\n");
}

TEST(ToLlb, LinkIsMerged) {
    const BuildPlan plan = plan_of("FROM alpine:3\nCOPY --link --chown=bob:5 a /x/\n");
    EXPECT_EQ(dump(plan), "0 [1/2] FROM docker.io/library/alpine:3@" + kDigest + " | " + kAlpine +
                              "\n"
                              "1 [internal] load build context | local://context local.followpaths=[\"a\"] "
                              "local.sharedkeyhint=context\n"
                              "2 [2/2] COPY --link --chown=bob:5 a /x/ | file {- copy 1/a /x/ owner=bob:5}\n"
                              "3 [2/2] LINK COPY --link --chown=bob:5 a /x/ | merge 0 2\n");
    const auto graph = llb::load(plan.definition);
    ASSERT_TRUE(graph);
    const auto& copy = graph->vertices[2].metadata.progress_group;
    const auto& merge = graph->vertices[3].metadata.progress_group;
    ASSERT_TRUE(copy && merge);
    EXPECT_EQ(copy->id, merge->id);
    EXPECT_TRUE(copy->weak);
    EXPECT_FALSE(merge->weak);
    EXPECT_EQ(copy->name, "[2/2] COPY --link --chown=bob:5 a /x/");
    EXPECT_EQ(history_of(plan).back(), "+ COPY --chown=bob:5 a /x/ # buildkit");
}

TEST(ToLlb, CopyForms) {
    const BuildPlan plan = plan_of(
        "FROM scratch\n"
        "COPY --parents --exclude=*.o lib/./sub/x /d\n"
        "COPY --chmod=u+rx . /all/\n"
        "COPY <<EOF /h\nhi $HOME_\nEOF\n"
        "ADD --chmod=600 https://example.com/f.tar.gz /f\n"
        "ADD a.tar /t/\n"
        "ADD https://github.com/x/y.git#v1 /y\n");
    EXPECT_EQ(dump(plan),
              "0 [internal] load build context | local://context local.sharedkeyhint=context\n"
              "1 [1/6] COPY --parents --exclude=*.o lib/./sub/x /d | file {- copy 0/lib /d include=[sub/x] "
              "exclude=[*.o] required=[/lib/sub/x]}\n"
              "2 [2/6] COPY --chmod=u+rx . /all/ | file {1 copy 0/ /all/ mode=0 mode=u+rx}\n"
              "3 [internal] preparing inline document | file {- mkfile /EOF 644 \"hi \\n\"}\n"
              "4 [3/6] COPY <<EOF /h | file {2 copy 3/EOF /h}\n"
              "5 [4/6] ADD --chmod=600 https://example.com/f.tar.gz /f | https://example.com/f.tar.gz "
              "http.filename=f.tar.gz\n"
              "6 [4/6] ADD --chmod=600 https://example.com/f.tar.gz /f | file {4 copy 5/f.tar.gz /f mode=600}\n"
              "7 [5/6] ADD a.tar /t/ | file {6 copy 0/a.tar /t/ unpack}\n"
              "8 [6/6] ADD https://github.com/x/y.git#v1 /y | git://github.com/x/y.git#v1 "
              "git.authheadersecret=GIT_AUTH_HEADER git.authtokensecret=GIT_AUTH_TOKEN "
              "git.fullurl=https://github.com/x/y.git\n"
              "9 [6/6] ADD https://github.com/x/y.git#v1 /y | file {7 copy 8/ /y}\n");
    EXPECT_EQ(history_of(plan)[0], "+ COPY --parents lib/./sub/x /d # buildkit");
    EXPECT_EQ(history_of(plan)[2], "+ COPY <<EOF /h # buildkit");
}

TEST(ToLlb, ConfigInstructions) {
    const BuildPlan plan = plan_of(
        "FROM alpine:3\n"
        "LABEL a=b \"c d\"=e\n"
        "MAINTAINER me\n"
        "USER bob\n"
        "EXPOSE 80/TCP 53-54/udp\n"
        "VOLUME /data\n"
        "STOPSIGNAL SIGINT\n"
        "SHELL [\"/bin/bash\", \"-c\"]\n"
        "HEALTHCHECK --interval=1m30s CMD curl -f x\n"
        "ENTRYPOINT [\"/app\"]\n"
        "CMD serve \"x\"\n"
        "ONBUILD RUN x\n");
    const oci::ContainerConfig& config = plan.image.config;
    EXPECT_EQ(plan.image.author, "me");
    EXPECT_EQ(config.user, "bob");
    EXPECT_EQ(config.labels, (std::map<std::string, std::string>{{"a", "b"}, {"c d", "e"}}));
    EXPECT_EQ(config.exposed_ports, (std::set<std::string>{"80/tcp", "53/udp", "54/udp"}));
    EXPECT_EQ(config.volumes, std::set<std::string>{"/data"});
    EXPECT_EQ(config.stop_signal, "SIGINT");
    EXPECT_EQ(config.entrypoint, Lines_{"/app"});
    EXPECT_EQ(config.cmd, (Lines_{"/bin/bash", "-c", "serve \"x\""}));
    EXPECT_EQ(config.on_build, Lines_{"RUN x"});
    ASSERT_TRUE(config.healthcheck);
    EXPECT_EQ(config.healthcheck->interval_ns, 90'000'000'000);
    EXPECT_EQ(history_of(plan),
              (Lines_{"+ base", "- LABEL a=b c d=e", "- MAINTAINER me", "- USER bob", "- EXPOSE [53/udp 54/udp 80/tcp]",
                      "- VOLUME [/data]", "- STOPSIGNAL SIGINT", "- SHELL [/bin/bash -c]",
                      R"(- HEALTHCHECK &{["CMD-SHELL" "curl -f x"] "1m30s" "0s" "0s" "0s" '\x00'})",
                      "- ENTRYPOINT [\"/app\"]", "- CMD [\"/bin/bash\" \"-c\" \"serve \\\"x\\\"\"]"}));
}

TEST(ToLlb, TriggersRunFirst) {
    const BuildPlan plan = plan_of(
        "FROM alpine:3 AS base\nONBUILD COPY a /a\nONBUILD RUN t\n"
        "FROM base\nRUN own\n");
    EXPECT_EQ(dump(plan),
              "0 [base 1/1] FROM docker.io/library/alpine:3@" + kDigest + " | " + kAlpine +
                  "\n"
                  "1 [internal] load build context | local://context local.followpaths=[\"a\"] "
                  "local.sharedkeyhint=context\n"
                  "2 [stage-1 1/3] ONBUILD COPY a /a | file {0 copy 1/a /a}\n"
                  "3 [stage-1 2/3] ONBUILD RUN t | exec [/bin/sh -c t] env=[PATH=/bin A=base] cwd=/ 2:/:out0\n"
                  "4 [stage-1 3/3] RUN own | exec [/bin/sh -c own] env=[PATH=/bin A=base] cwd=/ 3:/:out0\n");
    EXPECT_TRUE(plan.image.config.on_build.empty());
}

TEST(ToLlb, TriggersAreReadWithBackslash) {
    EXPECT_NE(
        error_of("# escape=`\nFROM scratch AS base\nONBUILD LABEL a=b` c\nFROM base\n").find("can't find = in \"c\""),
        std::string::npos);
}

TEST(ToLlb, BaseImagesDecideThePlatformNobodyAskedFor) {
    FakeBridge bridge;
    bridge.images["docker.io/library/arm:1"] =
        R"({"architecture":"arm64","os":"linux","config":{"Env":["A=1"]},"rootfs":{"diff_ids":["sha256:)" +
        std::string(64, 'b') + R"("]}})";
    const std::string text = "FROM arm:1\nRUN x\n";
    const auto platforms = [&](const ConvertOptions& options) {
        const auto plan = convert(text, options, bridge);
        const auto graph = llb::load(plan->definition);
        return graph->vertices.back().op.platform->architecture + " " + plan->image.platform.architecture;
    };
    ConvertOptions options = amd64();
    EXPECT_EQ(platforms(options), "amd64 arm64");
    options.build_platforms.push_back({.os = "linux", .architecture = "arm64"});
    EXPECT_EQ(platforms(options), "arm64 arm64");
    options.target_platform = oci::Platform{.os = "linux", .architecture = "amd64"};
    EXPECT_EQ(platforms(options), "amd64 amd64");
    // No PATH in the image: there is one all the same.
    EXPECT_EQ(convert(text, options, bridge)->image.config.env,
              (Lines_{"A=1", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}));
}

TEST(ToLlb, Heredocs) {
    const BuildPlan plan =
        plan_of("FROM alpine:3\nRUN <<EOF\nset -e\nmake\nEOF\nRUN <<EOF\n#!/usr/bin/env python\nx\nEOF\n");
    EXPECT_EQ(dump(plan),
              "0 [1/3] FROM docker.io/library/alpine:3@" + kDigest + " | " + kAlpine +
                  "\n"
                  "1 [2/3] RUN <<EOF (set -e...) | exec [/bin/sh -c set -e\nmake\n] env=[PATH=/bin A=base] cwd=/ "
                  "0:/:out0\n"
                  "2 [internal] preparing inline document | file {- mkfile /EOF 755 \"#!/usr/bin/env python\\nx\\n\"}\n"
                  "3 [3/3] RUN <<EOF (#!/usr/bin/env python...) | exec [/bin/sh -c /dev/pipes/EOF] "
                  "env=[PATH=/bin A=base] cwd=/ 1:/:out0 2/:/dev/pipes/:ro\n");
}

TEST(ToLlb, NamedContexts) {
    FakeBridge bridge;
    ConvertOptions options = amd64();
    options.named_contexts = {{"base", "docker-image://alpine:3"}, {"src", "local:src"}};
    bridge.files["src:.dockerignore"] = "*.log\n";
    const auto plan = convert("FROM base\nCOPY --from=src a/b /x\n", options, bridge);
    ASSERT_TRUE(plan) << plan.error().to_string();
    EXPECT_EQ(dump(*plan),
              "0 [context base] alpine:3 | docker-image://docker.io/library/alpine:3\n"
              "1 [context src] load from client | local://src local.excludepatterns=[\"*.log\"] "
              "local.followpaths=[\"a/b\"] local.sharedkeyhint=context:src-\n"
              "2 [stage-0 1/2] COPY --from=src a/b /x | file {0 copy 1/a/b /x}\n");
}

TEST(ToLlb, InputsBringTheirConfiguration) {
    ConvertOptions options = amd64();
    options.named_contexts = {{"base", "input:one"}};
    options.inputs["one"] = *llb::marshal_definition(llb::image("docker.io/library/alpine:3", {}),
                                                     llb::Platform{.architecture = "amd64", .os = "linux"});
    const std::string text = "FROM base\nRUN pwd\n";
    EXPECT_TRUE(plan_of(text, options).image.config.user.empty());
    const std::string config =
        R"({"architecture":"amd64","os":"linux","config":{"Env":["A=1"],"User":"me","WorkingDir":"/w"}})";
    options.input_metadata["one"] = R"({"containerimage.config":")" + codec::base64_encode(config) + "\"}";
    const BuildPlan plan = plan_of(text, options);
    EXPECT_EQ(plan.image.config.user, "me");
    EXPECT_NE(dump(plan).find("A=1"), std::string::npos);
    EXPECT_NE(dump(plan).find("cwd=/w"), std::string::npos);
    for (const char* bad : {"", "[]", R"({"containerimage.config":1})", R"({"containerimage.config":"!"})",
                            R"({"containerimage.config":"e30="}trailing)"}) {
        options.input_metadata["one"] = bad;
        EXPECT_NE(error_of(text, options).find("input metadata"), std::string::npos) << bad;
    }
}

TEST(ToLlb, LocalsOfOtherClients) {
    ConvertOptions options = amd64();
    options.named_contexts = {{"files", "local:dir"}};
    options.local_session_ids = {{"context", "first"}, {"dir", "second"}};
    const std::string text = dump(plan_of("FROM scratch\nCOPY a /\nCOPY --from=files b /\n", options));
    EXPECT_NE(text.find("local.session=first"), std::string::npos) << text;
    EXPECT_NE(text.find("local.session=second"), std::string::npos) << text;
}

TEST(ToLlb, MultiPlatformNames) {
    ConvertOptions options = amd64();
    options.target_platform = oci::Platform{.os = "linux", .architecture = "arm64"};
    options.multi_platform = true;
    const BuildPlan plan = plan_of("FROM --platform=$BUILDPLATFORM alpine:3\nARG TARGETARCH\nRUN x\n", options);
    const auto graph = llb::load(plan.definition);
    ASSERT_TRUE(graph);
    EXPECT_EQ(graph->vertices.back().name, "[linux/amd64->arm64 2/2] RUN x");
    EXPECT_EQ(graph->vertices.back().op.platform->architecture, "amd64");
    EXPECT_EQ(plan.image.platform.architecture, "arm64");
}

// Not for the platform of the stage that copies.
TEST(ToLlb, CopiedImagesAreOfTheTargetPlatform) {
    ConvertOptions options = amd64();
    options.target_platform = oci::Platform{.os = "linux", .architecture = "arm64"};
    const BuildPlan plan = plan_of("FROM --platform=$BUILDPLATFORM alpine:3\nCOPY --from=alpine:3 a b\n", options);
    const auto graph = llb::load(plan.definition);
    ASSERT_TRUE(graph);
    std::vector<std::string> platforms;
    for (const auto& vertex : graph->vertices) {
        if (std::holds_alternative<llb::SourceOp>(vertex.op.body))
            platforms.push_back(vertex.op.platform->architecture);
    }
    EXPECT_EQ(platforms, (Lines_{"amd64", "arm64"}));
}

TEST(ToLlb, PlatformOfTheResult) {
    FakeBridge bridge;
    std::string config = bridge.images.at("docker.io/library/alpine:3");
    config.replace(config.find("amd64"), 5, "arm64");
    bridge.images["docker.io/library/arm:1"] = config;
    ConvertOptions options = amd64();
    options.build_platforms.push_back(oci::Platform{.os = "linux", .architecture = "arm64"});
    // Nothing asked for: that of the base. Asked for: that, whatever the base says.
    const auto of_base = convert("FROM arm:1\nRUN x\n", options, bridge);
    ASSERT_TRUE(of_base) << of_base.error().to_string();
    EXPECT_EQ(of_base->image.platform.architecture, "arm64");
    options.target_platform = oci::Platform{.os = "linux", .architecture = "amd64"};
    const auto asked = convert("FROM arm:1\nRUN x\n", options, bridge);
    ASSERT_TRUE(asked) << asked.error().to_string();
    EXPECT_EQ(asked->image.platform.architecture, "amd64");
}

TEST(ToLlb, WhatWasWrittenIsBesideEachStep) {
    const BuildPlan plan = plan_of("FROM alpine:3\nRUN a \\\n  b\nCOPY x y\n");
    const auto graph = llb::load(plan.definition);
    ASSERT_TRUE(graph);
    ASSERT_EQ(graph->vertices.back().locations.size(), 1U);
    EXPECT_EQ(graph->vertices.back().locations[0].first_line, 4);
    std::vector<std::string> written;
    for (const auto& vertex : graph->vertices) {
        const auto command = vertex.metadata.description.find("com.docker.dockerfile.v1.command");
        if (command == vertex.metadata.description.end()) continue;
        ASSERT_EQ(vertex.locations.size(), 1U);
        written.push_back(
            fmt::format("{} {}-{}", command->second, vertex.locations[0].first_line, vertex.locations[0].last_line));
    }
    EXPECT_EQ(written, (Lines_{"FROM alpine:3 1-1", "RUN a   b 2-3"}));
}

TEST(ToLlb, NoCacheEpochAndNetwork) {
    ConvertOptions options = amd64();
    options.no_cache = Lines_{"b"};
    options.network = llb::NetMode::none;
    options.build_args["SOURCE_DATE_EPOCH"] = "1700000000";
    const BuildPlan plan =
        plan_of("FROM alpine:3 AS a\nRUN x\nFROM a AS b\nWORKDIR /w\nRUN --network=host y\n", options);
    const auto graph = llb::load(plan.definition);
    ASSERT_TRUE(graph);
    ASSERT_EQ(graph->vertices.size(), 4U);
    EXPECT_FALSE(graph->vertices[1].metadata.ignore_cache);
    EXPECT_TRUE(graph->vertices[3].metadata.ignore_cache);
    EXPECT_EQ(std::get<llb::ExecOp>(graph->vertices[1].op.body).network, llb::NetMode::none);
    EXPECT_EQ(std::get<llb::ExecOp>(graph->vertices[3].op.body).network, llb::NetMode::host);
    const auto& mkdir = std::get<llb::FileOp>(graph->vertices[2].op.body).actions[0].action;
    EXPECT_EQ(std::get<llb::MkDirAction>(mkdir).timestamp, 1'700'000'000'000'000'000);
    EXPECT_EQ(plan.image.history.back().created, "2023-11-14T22:13:20Z");
    EXPECT_TRUE(plan.ignore_cache);
    EXPECT_EQ(plan.epoch_seconds, 1'700'000'000);
    EXPECT_EQ(graph->vertices[3].locations.at(0).first_line, 5);
}

TEST(ToLlb, Errors) {
    EXPECT_NE(error_of("").find("the Dockerfile cannot be empty"), std::string::npos);
    ConvertOptions options = amd64();
    options.target = "bulid";
    FakeBridge bridge;
    auto plan = convert("FROM alpine:3 AS build\n", options, bridge);
    ASSERT_FALSE(plan);
    EXPECT_EQ(plan.error().message(), "target stage \"bulid\" could not be found");
    EXPECT_EQ(plan.error().hint(), "did you mean build?");

    plan = convert("FROM alpine:3 AS build\nRUN x\nFROM biuld\n", amd64(), bridge);
    ASSERT_FALSE(plan);
    EXPECT_EQ(plan.error().hint(), "did you mean build?");
    const auto* range = plan.error().find_detail<SourceRange>();
    ASSERT_NE(range, nullptr);
    EXPECT_EQ(range->first_line, 3);

    EXPECT_NE(error_of("FROM alpine:3\nCOPY --from=$X a b\n").find("variable expansion is not supported for --from"),
              std::string::npos);
    EXPECT_NE(error_of("FROM alpine:3 AS a\nCOPY --from=b x y\nFROM a AS b\n").find("circular dependency"),
              std::string::npos);
    EXPECT_NE(error_of("FROM alpine:3\nCOPY --from=7 a b\n").find("invalid stage index 7"), std::string::npos);
    EXPECT_NE(error_of("FROM alpine:3\nCOPY --chmod=9 a b\n").find("invalid chmod parameter: '9'"), std::string::npos);
    EXPECT_NE(error_of("FROM alpine:3\nCOPY https://x.com/a b\n").find("source can't be a URL for COPY"),
              std::string::npos);
    EXPECT_NE(error_of("FROM alpine:3\nSTOPSIGNAL SIGNO\n").find("invalid signal: SIGNO"), std::string::npos);
    EXPECT_NE(error_of("FROM alpine:3\nRUN --mount=target=/ x\n").find("invalid mount target \"/\""),
              std::string::npos);
    EXPECT_NE(error_of("FROM ${NOTHING}\n").find("base name (${NOTHING}) should not be blank"), std::string::npos);
    options.target = "a";
    EXPECT_NE(error_of("FROM scratch AS a\nCOPY --from=b x y\nFROM scratch AS b\n", options)
                  .find("cannot copy from stage \"b\", it needs to be defined before current stage \"a\""),
              std::string::npos);
}

// 500 stages, 5,000 lines: the work must stay near linear.
TEST(ToLlb, ManyStages) {
    std::string text = "FROM alpine:3 AS s0\n";
    for (int i = 1; i <= 500; ++i) {
        text += fmt::format("FROM alpine:3 AS s{}\nARG X=1\nENV E=$X\nCOPY --from=s{} /o /i\n", i, i - 1);
        for (int j = 0; j < 6; ++j) text += fmt::format("RUN step {} {}\n", i, j);
    }
    const BuildPlan plan = plan_of(text);
    const auto graph = llb::load(plan.definition);
    ASSERT_TRUE(graph);
    EXPECT_EQ(graph->vertices.size(), 1U + 500U * 7U);
    EXPECT_EQ(graph->vertices.back().name, "[s500 8/8] RUN step 500 5");
}

TEST(Values, PortsSignalsModes) {
    EXPECT_EQ(parse_port("1.2.3.4:80:90/udp")->ports, Lines_{"90/udp"});
    EXPECT_TRUE(parse_port("8080:80")->has_host);
    EXPECT_TRUE(parse_port("80/TCP")->casing);
    EXPECT_EQ(parse_port("1-3")->ports.size(), 3U);
    EXPECT_EQ(parse_port("000080")->ports, Lines_{"80/tcp"});
    EXPECT_FALSE(parse_port("3-1"));
    EXPECT_FALSE(parse_port("65536"));
    EXPECT_FALSE(parse_port("80/icmp"));
    EXPECT_FALSE(parse_port("/tcp"));
    EXPECT_TRUE(check_signal("9"));
    EXPECT_TRUE(check_signal("sigrtmin+3"));
    EXPECT_TRUE(check_signal("-1"));  // a number is not looked at
    EXPECT_FALSE(check_signal("0"));
    EXPECT_EQ(parse_chmod("0755")->mode, 0755);
    EXPECT_EQ(parse_chmod("u=rwX,go=rX")->mode_str, "u=rwX,go=rX");
    EXPECT_FALSE(parse_chmod("8"));
    EXPECT_FALSE(parse_chmod("10000"));
    EXPECT_FALSE(parse_chmod("u"));
}

TEST(ToLlb, ChecksAreHeard) {
    FakeBridge bridge;
    const std::string text = "FROM scratch AS Up\nENV a b\nCMD one\nCMD [\"two\"]\n";
    std::set<std::string> rules;
    const auto listen = [&](const WarningEvent& warning) { rules.insert(warning.rule); };
    const auto plan = to_llb(text, {.warn = listen}, bridge, Stop{});
    ASSERT_TRUE(plan) << plan.error().to_string();
    EXPECT_EQ(rules, (std::set<std::string>{"JSONArgsRecommended", "LegacyKeyValueFormat",
                                            "MultipleInstructionsDisallowed", "StageNameCasing"}));
    rules.clear();
    EXPECT_TRUE(to_llb("# check=skip=all\n" + text, {.warn = listen}, bridge, Stop{}));
    EXPECT_TRUE(rules.empty());
    const auto failed = to_llb("# check=error=true\n" + text, {.warn = listen}, bridge, Stop{});
    ASSERT_FALSE(failed);
    EXPECT_NE(failed.error().message().find("StageNameCasing"), std::string::npos);
    EXPECT_TRUE(rules.contains("StageNameCasing"));
    EXPECT_TRUE(to_llb("# check=error=true\n" + text, {.check_options = "skip=all"}, bridge, Stop{}));
}

TEST(ToLlb, DevicesAndTheirNeed) {
    const BuildPlan plan = plan_of("FROM alpine:3\nRUN --device=a.com/b=c --device=name=a.com/d,required true\n");
    const auto graph = llb::load(plan.definition);
    ASSERT_TRUE(graph);
    const auto& exec = std::get<llb::ExecOp>(graph->vertices.back().op.body);
    EXPECT_EQ(exec.cdi_devices, (std::vector<llb::CdiDevice>{{"a.com/b=c", true}, {"a.com/d", false}}));
}

TEST(Texts, LikeGo) {
    EXPECT_EQ(go_quote("a\"\n\x01\xC3\xA9\xFF"), R"("a\"\n\x01é\xff")");
    EXPECT_EQ(go_duration(0), "0s");
    EXPECT_EQ(go_duration(1'500'000), "1.5ms");
    EXPECT_EQ(go_duration(3'600'000'000'000), "1h0m0s");
    EXPECT_EQ(uppercase_command("copy a b"), "COPY a b");
    EXPECT_EQ(summarize_heredoc("\nfirst\nsecond\n"), "first...");
    EXPECT_EQ(summarize_heredoc("only\n"), "only");
}

TEST(Frontend, MetadataOfTheResult) {
    FakeBridge bridge;
    bridge.files["dockerfile:Dockerfile"] = "FROM alpine:3\nRUN x\n";
    std::map<std::string, std::string> options = {{"platform", "linux/amd64"}, {"build-arg:SOURCE_DATE_EPOCH", "5"}};
    const auto keys_of = [&]() {
        const auto answer =
            run_frontend({.options = options, .inputs = {}, .warn = {}, .session_id = ""}, bridge, Stop{});
        EXPECT_TRUE(answer) << answer.error().to_string();
        std::string keys;
        for (const auto& [key, value] : answer->metadata) keys += key + "\n";
        EXPECT_NE(answer->metadata.at("refs.platforms").find(R"("ID":"linux/amd64")"), std::string::npos);
        return keys;
    };
    EXPECT_EQ(keys_of(), "containerimage.base.config\ncontainerimage.config\nrefs.platforms\nsource.date.epoch\n");
    options["multi-platform"] = "true";
    EXPECT_EQ(keys_of(),
              "containerimage.base.config/linux/amd64\ncontainerimage.config/linux/amd64\nrefs.platforms\n"
              "source.date.epoch/linux/amd64\n");
}

TEST(Context, LocalGitAndHttp) {
    FakeBridge bridge;
    const llb::Platform platform{.architecture = "amd64", .os = "linux"};
    bridge.files = {{"dockerfile:dockerfile", "FROM scratch\n"}, {"context:.dockerignore", "# c\nnode_modules\n!x\n"}};
    auto source = load_build_source({}, platform, bridge, Stop{});
    ASSERT_TRUE(source) << source.error().to_string();
    EXPECT_EQ(source->text, "FROM scratch\n");
    EXPECT_EQ(source->context.exclude_patterns, (Lines_{"node_modules", "!x"}));
    EXPECT_FALSE(source->context.remote);

    const std::string url = "https://github.com/x/y.git#main:sub";
    bridge.files = {{"[internal] load git source " + url + ":Dockerfile", "FROM alpine:3\n"}};
    source = load_build_source({.context = url}, platform, bridge, Stop{});
    ASSERT_TRUE(source) << source.error().to_string();
    EXPECT_EQ(source->text, "FROM alpine:3\n");
    ASSERT_TRUE(source->context.remote);

    bridge.http_head = "FROM busybox\n";
    bridge.files = {{"[internal] load remote build context:context", "FROM busybox\n"}};
    source = load_build_source({.context = "https://example.com/Dockerfile"}, platform, bridge, Stop{});
    ASSERT_TRUE(source) << source.error().to_string();
    EXPECT_EQ(source->filename, "context");

    // Github's old form is a repository here, though a file for ADD.
    const std::string old = "github.com/x/y";
    bridge.files = {{"[internal] load git source " + old + ":Dockerfile", "FROM alpine:3\n"}};
    source = load_build_source({.context = old, .subdir = "sub"}, platform, bridge, Stop{});
    ASSERT_TRUE(source) << source.error().to_string();
    ASSERT_TRUE(source->context.remote);
    const auto scoped = llb::load(*llb::marshal_definition(*source->context.remote, platform));
    ASSERT_TRUE(scoped);
    ASSERT_EQ(scoped->vertices.size(), 2U);
    EXPECT_EQ(body_text(scoped->vertices[0]).find("git://github.com/x/y"), 0U) << body_text(scoped->vertices[0]);
    EXPECT_EQ(body_text(scoped->vertices[1]), "file {- copy 0/sub /}");

    bridge.files.clear();
    const auto missing = load_build_source({}, platform, bridge, Stop{});
    ASSERT_FALSE(missing);
    EXPECT_NE(missing.error().to_string().find("open Dockerfile: no such file"), std::string::npos);
}

TEST(Context, IgnoreFileTooLarge) {
    FakeBridge bridge;
    const llb::Platform platform{.architecture = "amd64", .os = "linux"};
    std::string large;
    while (large.size() <= 16U << 20U) large += "*.o\n";
    bridge.files = {{"dockerfile:Dockerfile", "FROM scratch\n"}, {"context:.dockerignore", large}};
    auto refused = load_build_source({}, platform, bridge, Stop{});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().message(), ".dockerignore:4194305: the file is larger than 16 MiB");
    bridge.files["dockerfile:Dockerfile.dockerignore"] = std::string((16U << 20U) + 1, 'x');
    refused = load_build_source({}, platform, bridge, Stop{});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().message(), "Dockerfile.dockerignore:1: the file is larger than 16 MiB");
}

}  // namespace
}  // namespace cooper::dockerfile
