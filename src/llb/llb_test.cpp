// Bytes of operations against protoc's encoder, the loader's checks, names, and the builder.
#include "base/text.hpp"
#include "llb/detail/node.hpp"
#include "llb/load.hpp"
#include "llb/marshal.hpp"
#include "llb/state.hpp"

#include <gtest/gtest.h>

namespace cooper::llb {
namespace {

std::string hex_of(std::string_view bytes) {
    return to_hex({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()});
}

const std::string kOnes(64, '1');
// The field with the input "sha256:111…": tag, length, digest.
const std::string kInput0 = "0a490a47" + hex_of("sha256:" + kOnes);
const std::string kMinusOne = "ffffffffffffffffff01";

Digest ones() { return *Digest::parse("sha256:" + kOnes); }

const Platform kAmd64{.architecture = "amd64", .os = "linux"};

template <class T>
const T& must(const Result<T>& result) {
    EXPECT_TRUE(result) << (result ? "" : result.error().to_string());
    if (!result) std::abort();
    return *result;
}

ExecOp full_exec() {
    ExecOp exec;
    exec.meta.args = {"/bin/sh", "-c"};
    exec.meta.env = {"A=b"};
    exec.meta.cwd = "/";
    exec.meta.user = "u";
    exec.meta.proxy_env = ProxyEnv{.http_proxy = "p"};
    exec.meta.extra_hosts = {{"h", "1.2.3.4"}};
    exec.meta.hostname = "x";
    exec.meta.ulimit = {{"nofile", 1, -1}};
    exec.meta.cgroup_parent = "cg";
    exec.meta.remove_mount_stubs_recursive = true;
    exec.meta.valid_exit_codes = {0, 300};
    Mount root;
    root.input = 0;
    root.output = 0;
    root.dest = "/";
    Mount cache;
    cache.dest = "/c";
    cache.type = MountType::cache;
    cache.cache = CacheOpt{"/c", CacheSharing::locked};
    Mount tmpfs;
    tmpfs.dest = "/t";
    tmpfs.type = MountType::tmpfs;
    tmpfs.tmpfs = TmpfsOpt{};
    Mount secret;
    secret.dest = "/s";
    secret.output = 0;
    secret.type = MountType::secret;
    secret.secret = SecretOpt{.id = "s", .mode = 256, .optional = true};
    exec.mounts = {root, cache, tmpfs, secret};
    exec.network = NetMode::host;
    exec.security = SecurityMode::insecure;
    exec.secret_env = {{"s", "S", true}};
    exec.cdi_devices = {{"v/c=x", true}};
    return exec;
}

TEST(Marshal, ExecMatchesProtoc) {
    Op op;
    op.inputs = {{ones(), 1}};
    op.body = full_exec();
    op.platform = kAmd64;
    op.constraints.emplace();
    const std::string bytes = marshal(op);
    EXPECT_EQ(hex_of(bytes),
              "0a4b0a47" + hex_of("sha256:" + kOnes) +
                  "100112d6010a500a072f62696e2f73680a022d631203413d621a012f2201752a030a0170320c0a01681207312e322e332e34"
                  "3a01784a150a066e6f66696c65100118" +
                  kMinusOne +
                  "52026367580162"
                  "0300ac0212031a012f122508" +
                  kMinusOne + "1a022f6320" + kMinusOne +
                  "3003a201060a022f631002"
                  "121f08" +
                  kMinusOne + "1a022f7420" + kMinusOne +
                  "30049a0100"
                  "121c08" +
                  kMinusOne +
                  "1a022f733001aa01080a0173208002280118"
                  "0120012a080a0173120153180132090a05762f633d781001520e0a05616d64363412056c696e75785a00");
    EXPECT_EQ(must(parse_op(bytes)), op);
}

TEST(Marshal, FileMatchesProtoc) {
    Op op;
    op.inputs = {{ones(), 0}};
    FileAction mkdir;
    mkdir.input = 0;
    mkdir.action = MkDirAction{"/a", 493, true, ChownOpt{UserOpt{NamedUser{"bob", 0}}, UserOpt{std::uint32_t{0}}}, -1};
    CopyAction copy;
    copy.src = "/x";
    copy.dest = "/y/";
    copy.follow_symlink = copy.dir_copy_contents = copy.create_dest_path = true;
    copy.allow_wildcard = copy.allow_empty_wildcard = true;
    copy.exclude_patterns = {"*.o"};
    copy.mode_str = "u+x";
    copy.required_paths = {"r"};
    FileAction second;
    second.input = 1;
    second.secondary_input = 0;
    second.output = 0;
    second.action = copy;
    op.body = FileOp{{mkdir, second}};
    op.constraints.emplace();
    const std::string bytes = marshal(op);
    EXPECT_EQ(hex_of(bytes), kInput0 + "227a123b10" + kMinusOne + "18" + kMinusOne +
                                 "32230a022f6110ed031801220d0a070a050a03626f621202100028" + kMinusOne +
                                 "123b080122370a022f7812032f792f20" + kMinusOne + "2801300140014801500158" + kMinusOne +
                                 "6a032a2e6f7a03752b78820101725a00");
    EXPECT_EQ(must(parse_op(bytes)), op);
}

TEST(Marshal, OtherOpsMatchProtoc) {
    Op source;
    source.body = SourceOp{"local://context", {{"local.unique", ""}, {"local.sharedkeyhint", "context"}}};
    source.constraints.emplace();
    EXPECT_EQ(hex_of(marshal(source)),
              "1a430a0f6c6f63616c3a2f2f636f6e74657874121e0a136c6f63616c2e7368617265646b657968696e741207636f6e74657874"
              "12100a0c6c6f63616c2e756e6971756512005a00");
    EXPECT_EQ(must(parse_op(marshal(source))), source);

    Op merge;
    merge.inputs = {{ones(), 0}, {ones(), 2}};
    merge.body = MergeOp{{0, 1}};
    merge.constraints = {"a"};
    EXPECT_EQ(hex_of(marshal(merge)),
              kInput0 + "0a4b0a47" + hex_of("sha256:" + kOnes) + "100232060a000a0208015a030a0161");
    EXPECT_EQ(must(parse_op(marshal(merge))), merge);

    Op diff;
    diff.inputs = {{ones(), 0}};
    diff.body = DiffOp{-1, 0};
    EXPECT_EQ(hex_of(marshal(diff)), kInput0 + "3a0f0a0b08" + kMinusOne + "1200");
    EXPECT_EQ(must(parse_op(marshal(diff))), diff);

    Op pass;
    pass.inputs = {{ones(), 0}};
    pass.body = PassthroughOp{"p", {0, 1}};
    EXPECT_EQ(hex_of(marshal(pass)), kInput0 + "42070a017012020001");
    EXPECT_EQ(must(parse_op(marshal(pass))), pass);
}

TEST(Marshal, DefinitionSurvivesARoundTrip) {
    Definition definition;
    definition.ops = {"a", std::string("\0b", 2)};
    OpMetadata& metadata = definition.metadata["sha256:" + kOnes];
    metadata.ignore_cache = true;
    metadata.description = {{"llb.customname", "name"}, {"k", ""}};
    metadata.export_cache = false;
    metadata.caps = {{"exec.meta.base", true}};
    metadata.progress_group = OpProgressGroup{"id", "group", true};
    metadata.linux_resources = LinuxResources{.memory_bytes = 5, .memory_swap_bytes = -1, .cpuset_cpus = "0-1"};
    definition.source.emplace();
    definition.source->infos = {{"Dockerfile", "FROM scratch", "", "Dockerfile"}};
    definition.source->locations["sha256:" + kOnes] = {{0, {{{1, 0}, {2, 0}}}}};
    EXPECT_EQ(must(parse_definition(marshal(definition))), definition);
}

TEST(Parse, RefusesWhatIsCutOffOrOfTheWrongKind) {
    Op op;
    op.inputs = {{ones(), 1}};
    op.body = full_exec();
    const std::string bytes = marshal(op);
    std::size_t refused = 0;
    for (std::size_t size = 1; size < bytes.size(); ++size) {
        const auto parsed = parse_op(std::string_view(bytes).substr(0, size));
        if (!parsed) ++refused;
    }
    EXPECT_GT(refused, bytes.size() / 2);
    EXPECT_FALSE(parse_op("\x08\x01"));  // inputs as a number
    EXPECT_FALSE(
        parse_op(std::string("\x0a\x05\x0a\x03"
                             "abc",
                             7)));                           // an input that is no digest
    EXPECT_FALSE(parse_op("\x0b"));                          // a group
    EXPECT_FALSE(parse_op(std::string(11, '\xff')));         // a number without end
    EXPECT_TRUE(parse_op(std::string("\xaa\x3e\x01x", 4)));  // an unknown field is skipped
}

Definition with_terminal(std::vector<std::string> ops, std::int64_t index = 0) {
    Op terminal;
    terminal.inputs = {{op_digest(ops.back()), index}};
    ops.push_back(marshal(terminal));
    Definition definition;
    definition.ops = std::move(ops);
    return definition;
}

std::string source_bytes(const std::string& id) {
    Op op;
    op.body = SourceOp{id, {}};
    return marshal(op);
}

TEST(Load, ResolvesInputsAndNames) {
    const std::string a = source_bytes("docker-image://a");
    const std::string b = source_bytes("docker-image://b");
    Op merge;
    merge.inputs = {{op_digest(a), 0}, {op_digest(b), 0}};
    merge.body = MergeOp{{0, 1}};
    Definition definition = with_terminal({a, b, a, marshal(merge)});
    definition.metadata[op_digest(b).to_string()].description["llb.customname"] = "[1/2] FROM b";
    definition.source.emplace();
    definition.source->infos = {{"Dockerfile", "", "", ""}};
    definition.source->locations[op_digest(a).to_string()] = {{0, {{{3, 0}, {4, 0}}}}, {7, {{{1, 0}, {1, 0}}}}};
    const Graph graph = must(load(definition));
    ASSERT_EQ(graph.vertices.size(), 3U);
    EXPECT_EQ(graph.vertices[0].name, "docker-image://a");
    EXPECT_EQ(graph.vertices[1].name, "[1/2] FROM b");
    EXPECT_EQ(graph.vertices[2].name, "merge (docker-image://a, [1/2] FROM b)");
    EXPECT_EQ(graph.vertices[2].inputs, (std::vector<Edge>{{0, 0}, {1, 0}}));
    EXPECT_EQ(graph.target, (Edge{2, 0}));
    ASSERT_EQ(graph.vertices[0].locations.size(), 1U);
    EXPECT_EQ(graph.vertices[0].locations[0].first_line, 3);
    EXPECT_EQ(graph.find(op_digest(b)), &graph.vertices[1]);
}

TEST(Load, ScratchIsEmpty) {
    const Graph graph = must(load(Definition{}));
    EXPECT_FALSE(graph.target);
    EXPECT_TRUE(graph.vertices.empty());
}

std::string load_error(const Definition& definition) {
    const auto graph = load(definition);
    return graph ? "" : graph.error().to_string();
}

TEST(Load, RefusesBadDefinitions) {
    const std::string a = source_bytes("docker-image://a");
    EXPECT_EQ(load_error({.ops = {a}}), "invalid LLB with 1 vertexes");
    EXPECT_EQ(load_error({.ops = {a, a}}), "invalid LLB with no inputs on last vertex");
    Op missing;
    missing.inputs = {{ones(), 0}};
    missing.body = DiffOp{0, -1};
    EXPECT_EQ(load_error(with_terminal({marshal(missing)})), "invalid missing input digest sha256:" + kOnes);
    EXPECT_NE(load_error(with_terminal({a}, -1)).find("invalid output index -1"), std::string::npos);
    EXPECT_NE(load_error(with_terminal({source_bytes("no-scheme")})).find("invalid source identifier"),
              std::string::npos);
}

std::string invalid(Op op) {
    const auto valid = validate(op);
    return valid ? "" : valid.error().to_string();
}

TEST(Validate, EveryRule) {
    Op op;
    EXPECT_EQ(invalid(op), "invalid empty op");
    op.body = ExecOp{};
    EXPECT_EQ(invalid(op), "invalid exec op with no args");
    std::get<ExecOp>(op.body).meta.args = {"x"};
    EXPECT_EQ(invalid(op), "invalid exec op with no mounts");
    std::get<ExecOp>(op.body).mounts = {Mount{.dest = "/data"}};
    EXPECT_EQ(invalid(op), "invalid exec op with no rootfs");
    std::get<ExecOp>(op.body).mounts = {Mount{.input = 0, .dest = "/"}};
    EXPECT_EQ(invalid(op), "invalid mount input index 0, the operation has 0 inputs");
    std::get<ExecOp>(op.body).mounts = {Mount{.dest = "/"}};
    EXPECT_EQ(invalid(op), "");
    op.body = FileOp{};
    EXPECT_EQ(invalid(op), "invalid file op with no actions");
    FileAction action;
    op.body = FileOp{{action}};
    EXPECT_EQ(invalid(op), "invalid file op with an empty action");
    action.action = RmAction{.path = "/x"};
    op.body = FileOp{{action}};
    EXPECT_EQ(invalid(op), "no outputs specified");
    action.output = 1;
    op.body = FileOp{{action}};
    EXPECT_EQ(invalid(op), "missing output index 0");
    action.output = 0;
    op.body = FileOp{{action, action}};
    EXPECT_EQ(invalid(op), "duplicate output 0");
    action.input = 0;  // itself
    op.body = FileOp{{action}};
    EXPECT_EQ(invalid(op), "invalid input index 0, the operation has 0 inputs");
    op.body = DiffOp{-5, 0};
    EXPECT_EQ(invalid(op), "invalid diff op with nil lower or upper input");
    op.body = MergeOp{{0}};
    EXPECT_EQ(invalid(op), "invalid merge op with 1 inner inputs and 0 outer inputs");
    op.body = PassthroughOp{};
    EXPECT_EQ(invalid(op), "invalid passthrough op with no id");
    op.body = PassthroughOp{"p", {}};
    EXPECT_EQ(invalid(op), "invalid passthrough op with no outputs");
    op.body = BuildOp{.builder = 0};
    EXPECT_EQ(invalid(op), "only the LLB builder is allowed in a build op");
    EXPECT_NE(invalid(must(parse_op(std::string("\x3a\x02\x0a\x00", 4)))), "") << "a diff without upper";
}

TEST(Names, Defaults) {
    FileOp file;
    file.actions.resize(5);
    file.actions[0].action = CopyAction{.src = "/a", .dest = "/b"};
    file.actions[1].action = MkDirAction{.path = "/d"};
    file.actions[2].action = MkFileAction{.path = "/f"};
    file.actions[3].action = RmAction{.path = "/r"};
    file.actions[4].action = SymlinkAction{.old_path = "/o", .new_path = "/n"};
    EXPECT_EQ(default_name(Op{.body = file}, {}), "copy /a /b, mkdir /d, mkfile /f, rm /r, symlink /n -> /o");
    EXPECT_EQ(default_name(Op{.body = DiffOp{-1, 0}}, {"up"}), "diff scratch -> (up)");
    EXPECT_EQ(default_name(Op{.body = BuildOp{}}, {}), "build");
    EXPECT_EQ(default_name(Op{.body = PassthroughOp{"p", {}}}, {}), "passthrough p");
}

TEST(Paths, LikeGo) {
    EXPECT_EQ(clean_path(""), ".");
    EXPECT_EQ(clean_path("/../a/./b//c/.."), "/a/b");
    EXPECT_EQ(clean_path("../../a"), "../../a");
    EXPECT_EQ(clean_path("a/../.."), "..");
    EXPECT_EQ(clean_path("//"), "/");
    EXPECT_EQ(join_path("/", "context/../x"), "/x");
    EXPECT_EQ(normalize_path("/w", "x/", TrailingSlash::keep), "/w/x/");
    EXPECT_EQ(normalize_path("/w", "/x/.", TrailingSlash::keep), "/x/.");
    EXPECT_EQ(normalize_path("/w", "/.", TrailingSlash::keep), "/.");
    EXPECT_EQ(normalize_path("/w", "x/", TrailingSlash::drop), "/w/x");
}

const ExecOp& exec_of(const Op& op) { return std::get<ExecOp>(op.body); }

TEST(Builder, RunGivesBuildKitsShape) {
    State base = image("docker.io/library/alpine:3", {});
    base.add_env("A", "1");
    base.add_env("B", "2");
    base.add_env("A", "3");
    base.set_dir("/w");
    base.set_user("bob");
    RunOptions options;
    options.args = {"make"};
    RunMount src;
    src.target = "/src";
    src.source = local("context", {.shared_key_hint = "context"}).output();
    src.readonly = true;
    RunMount early;  // sorts before "/src" and before nothing else
    early.target = "/cache";
    early.cache = CacheOpt{"id", CacheSharing::shared};
    options.mounts = {src, early};
    options.ssh = {RunSsh{}};
    const State after = base.run(options);
    const Definition definition = must(marshal_definition(after, kAmd64));
    ASSERT_EQ(definition.ops.size(), 4U);
    const Op image_op = must(parse_op(definition.ops[0]));
    EXPECT_EQ(image_op.platform, kAmd64);
    const Op local_op = must(parse_op(definition.ops[1]));
    EXPECT_FALSE(local_op.platform);
    EXPECT_EQ(std::get<SourceOp>(local_op.body).attrs.at("local.sharedkeyhint"), "context");
    const Op run = must(parse_op(definition.ops[2]));
    const ExecOp& exec = exec_of(run);
    EXPECT_EQ(exec.meta.env, (std::vector<std::string>{"B=2", "A=3", "SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0"}));
    EXPECT_EQ(exec.meta.cwd, "/w");
    EXPECT_EQ(exec.meta.user, "bob");
    EXPECT_TRUE(exec.meta.remove_mount_stubs_recursive);
    ASSERT_EQ(exec.mounts.size(), 4U);
    EXPECT_EQ(exec.mounts[0].dest, "/");
    EXPECT_EQ(exec.mounts[0].output, 0);
    EXPECT_EQ(exec.mounts[1].dest, "/cache");
    EXPECT_EQ(exec.mounts[1].output, kSkipOutput);
    EXPECT_EQ(exec.mounts[2].input, 1);
    EXPECT_EQ(exec.mounts[2].output, kSkipOutput);
    EXPECT_EQ(exec.mounts[3].type, MountType::ssh);
    EXPECT_EQ(after.dir(), "/w");
    ASSERT_TRUE(load(definition));
}

TEST(Builder, FileChainNumbersResultsAfterInputs) {
    const State from = image("docker.io/library/a:1", {});
    State base = image("docker.io/library/b:1", {});
    base.set_dir("/w");
    FileActions actions;
    actions.mkdir("d", 0755, true, Owner::parse("bob:5"), std::nullopt)
        .copy(from, "x/../y", "d/", {.owner = Owner::parse("root")});
    const Definition definition = must(marshal_definition(base.file(actions, {}), kAmd64));
    const Op op = must(parse_op(definition.ops[2]));
    EXPECT_FALSE(op.platform);
    const FileOp& file = std::get<FileOp>(op.body);
    ASSERT_EQ(file.actions.size(), 2U);
    EXPECT_EQ(file.actions[0].input, 0);
    EXPECT_EQ(file.actions[0].output, kSkipOutput);
    EXPECT_EQ(file.actions[1].input, 2);
    EXPECT_EQ(file.actions[1].secondary_input, 1);
    EXPECT_EQ(file.actions[1].output, 0);
    const auto& mkdir = std::get<MkDirAction>(file.actions[0].action);
    EXPECT_EQ(mkdir.path, "/w/d");
    EXPECT_EQ(mkdir.owner, (ChownOpt{UserOpt{NamedUser{"bob", 0}}, UserOpt{std::uint32_t{5}}}));
    const auto& copy = std::get<CopyAction>(file.actions[1].action);
    EXPECT_EQ(copy.src, "/y");
    EXPECT_EQ(copy.dest, "/w/d/");
    EXPECT_EQ(copy.owner, (ChownOpt{UserOpt{std::uint32_t{0}}, std::nullopt}));
    ASSERT_TRUE(load(definition));
}

TEST(Builder, MergeAndDiffLeaveScratchOut) {
    const State a = image("docker.io/library/a:1", {});
    const State b = image("docker.io/library/b:1", {});
    EXPECT_TRUE(merge({scratch(), scratch()}, {}).output().is_scratch());
    EXPECT_EQ(merge({scratch(), a}, {}).output(), a.output());
    EXPECT_EQ(diff(scratch(), a, {}).output(), a.output());
    const Definition merged = must(marshal_definition(merge({a, scratch(), b}, {}), kAmd64));
    EXPECT_EQ(must(load(merged)).vertices.back().name,
              "merge (docker-image://docker.io/library/a:1, docker-image://docker.io/library/b:1)");
}

TEST(Builder, GitAndHttpAttributes) {
    const auto attrs_of = [](const State& state) {
        const Definition definition = must(marshal_definition(state, kAmd64));
        return std::get<SourceOp>(must(parse_op(definition.ops[0])).body);
    };
    const SourceOp https = attrs_of(git("https://u:p@example.com/a/b.git", {.ref = "v1", .subdir = "d"}));
    EXPECT_EQ(https.identifier, "git://example.com/a/b.git#v1:d");
    EXPECT_EQ(https.attrs.at("git.fullurl"), "https://u:p@example.com/a/b.git");
    EXPECT_EQ(https.attrs.at("git.authtokensecret"), "GIT_AUTH_TOKEN");
    const SourceOp ssh = attrs_of(git("git@example.com:a/b.git", {}));
    EXPECT_EQ(ssh.identifier, "git://example.com/a/b.git");
    EXPECT_EQ(ssh.attrs.at("git.mountsshsock"), "default");
    const SourceOp file = attrs_of(http("https://e.com/x", {.filename = "x", .perm = 0644}));
    EXPECT_EQ(file.attrs, (std::map<std::string, std::string>{{"http.filename", "x"}, {"http.perm", "0644"}}));
}

TEST(Builder, DeferredIsMadeOnceAndLate) {
    int made = 0;
    std::string hint = "early";
    const State late = deferred([&] {
        ++made;
        return local("context", {.shared_key_hint = hint});
    });
    State base = scratch();
    FileActions first;
    first.copy(late, "/a", "/a", {});
    base = base.file(first, {});
    FileActions second;
    second.copy(late, "/b", "/b", {});
    base = base.file(second, {});
    hint = "late";
    const Graph graph = must(load(must(marshal_definition(base, kAmd64))));
    EXPECT_EQ(made, 1);
    EXPECT_EQ(graph.vertices.size(), 3U);
    EXPECT_EQ(std::get<SourceOp>(graph.vertices[0].op.body).attrs.at("local.sharedkeyhint"), "late");
}

TEST(Builder, DefinitionAsState) {
    State base = image("docker.io/library/a:1", {});
    RunOptions options;
    options.args = {"x"};
    const Definition inner = must(marshal_definition(base.run(options), kAmd64));
    const State back = must(from_definition(inner));
    EXPECT_EQ(must(marshal_definition(back, kAmd64)).ops, inner.ops);
}

TEST(Builder, LongChainsNeedNoStack) {
    State state = image("docker.io/library/a:1", {});
    for (int i = 0; i < 20'000; ++i) {
        FileActions actions;
        actions.rm("/x" + std::to_string(i), true, false);
        state = state.file(actions, {});
    }
    const Definition definition = must(marshal_definition(state, kAmd64));
    EXPECT_EQ(must(load(definition)).vertices.size(), 20'001U);
}

}  // namespace
}  // namespace cooper::llb
