// Cache keys: the JSON that is hashed, written out by hand from BuildKit's struct definitions, and
// what each input counts for.
#include "llb/cache_digest.hpp"

#include "codec/base64.hpp"
#include "codec/sha256.hpp"
#include "llb/detail/go_text.hpp"

#include <gtest/gtest.h>

namespace cooper::llb {
namespace {

const Platform kArm{.architecture = "arm", .os = "linux", .variant = "v7"};
const Platform kAmd64{.architecture = "amd64", .os = "linux"};

OpCacheInfo info_of(const Op& op, const Platform& platform = kAmd64) {
    auto info = cache_info(op, platform);
    EXPECT_TRUE(info) << (info ? "" : info.error().to_string());
    return info ? *info : OpCacheInfo{};
}

Digest sha(std::string_view text) { return codec::sha256_of(text); }

Input some_input(char fill) { return {sha(std::string(1, fill)), 0}; }

Mount root_mount() { return Mount{.input = 0, .dest = "/", .output = 0}; }

Op exec_op(std::vector<Mount> mounts, std::size_t inputs) {
    ExecOp exec;
    exec.meta.args = {"/bin/sh", "-c", "a && b > c"};
    exec.meta.env = {"PATH=/bin"};
    exec.meta.cwd = "/";
    exec.meta.remove_mount_stubs_recursive = true;
    exec.mounts = std::move(mounts);
    Op op;
    for (std::size_t i = 0; i < inputs; ++i) op.inputs.push_back(some_input(static_cast<char>('a' + i)));
    op.body = exec;
    return op;
}

constexpr const char* kMetaJson =
    R"({"args":["/bin/sh","-c","a \u0026\u0026 b \u003e c"],"env":["PATH=/bin"],"cwd":"/","removeMountStubsRecursive":true})";

TEST(ExecCache, PlainRunLeavesMountsOut) {
    Op op = exec_op({root_mount()}, 1);
    std::get<ExecOp>(op.body).meta.proxy_env = ProxyEnv{.http_proxy = "secret"};
    const OpCacheInfo info = info_of(op, kArm);
    EXPECT_EQ(info.json, std::string(R"({"Type":"buildkit.exec.v0","Exec":{"meta":)") + kMetaJson +
                             R"(},"OS":"linux","Arch":"arm","Variant":"v7"})");
    EXPECT_EQ(info.digest, sha(info.json));
    ASSERT_EQ(info.inputs.size(), 1U);
    EXPECT_EQ(info.inputs[0].selector, sha("/"));
    EXPECT_TRUE(info.inputs[0].definition_only());
}

TEST(ExecCache, MountsSelectorsAndHosts) {
    Mount bind{.input = 1, .selector = "sub/dir", .dest = "/src", .readonly = true};
    Mount cache{.dest = "/root/.cache", .type = MountType::cache, .cache = CacheOpt{"mine", CacheSharing::locked}};
    Mount standard{.dest = "/go", .type = MountType::cache, .cache = CacheOpt{"ns//go", CacheSharing::shared}};
    Mount own_id{.dest = "/own", .type = MountType::cache, .cache = CacheOpt{"//own", CacheSharing::shared}};
    Op op = exec_op({root_mount(), bind, cache, standard, own_id}, 2);
    auto& exec = std::get<ExecOp>(op.body);
    exec.meta.extra_hosts = {{"db", "10.0.0.1"}};
    exec.network = NetMode::none;
    const OpCacheInfo info = info_of(op);
    EXPECT_EQ(
        info.json,
        R"({"Type":"buildkit.exec.v0","Exec":{"meta":{"args":["/bin/sh","-c","a \u0026\u0026 b \u003e c"],"env":["PATH=/bin"],"cwd":"/","extraHosts":[{"Host":"db"}],"removeMountStubsRecursive":true},"mounts":[{"dest":"/"},{"input":1,"dest":"/src","output":-1,"readonly":true},{"input":-1,"dest":"/root/.cache","output":-1,"mountType":3,"cacheOpt":{}},{"input":-1,"dest":"/go","output":-1,"mountType":3,"cacheOpt":{"ID":"ns//go"}},{"input":-1,"dest":"/own","output":-1,"mountType":3,"cacheOpt":{"ID":"//own"}}],"network":2},"OS":"linux","Arch":"amd64"})");
    ASSERT_EQ(info.inputs.size(), 2U);
    EXPECT_EQ(info.inputs[1].selector, sha("/sub/dir"));
    ASSERT_EQ(info.inputs[1].content.size(), 1U);
    EXPECT_EQ(info.inputs[1].content[0], (ContentSelector{.path = "/sub/dir", .follow_links = true}));
}

TEST(ExecCache, ContentOnlyWhenEveryUseIsSafe) {
    Mount safe{.input = 1, .selector = "/a", .dest = "/a", .readonly = true};
    Mount writes{.input = 1, .selector = "/b", .dest = "/b", .output = 1};
    EXPECT_TRUE(info_of(exec_op({root_mount(), safe, writes}, 2)).inputs[1].definition_only());
    Mount whole{.input = 1, .dest = "/w", .output = 1};
    const InputCacheInfo all = info_of(exec_op({root_mount(), whole}, 2)).inputs[1];
    EXPECT_EQ(all.selector, sha("/"));
    ASSERT_EQ(all.content.size(), 1U);
    EXPECT_EQ(all.content[0].path, "/");
    Mount below{.input = 1, .selector = "/a/sub", .dest = "/s", .readonly = true};
    const InputCacheInfo nested = info_of(exec_op({root_mount(), safe, below}, 2)).inputs[1];
    EXPECT_EQ(nested.selector, sha(std::string("/a\0/a/sub", 9)));
    ASSERT_EQ(nested.content.size(), 1U);
    safe.content_cache = MountContentCache::off;
    EXPECT_TRUE(info_of(exec_op({root_mount(), safe}, 2)).inputs[1].definition_only());
    writes.content_cache = MountContentCache::on;
    EXPECT_FALSE(cache_info(exec_op({root_mount(), writes}, 2), kAmd64));
}

Op copy_op(CopyAction copy) {
    FileAction action{.input = 0, .secondary_input = 1, .output = 0, .action = std::move(copy)};
    Op op;
    op.inputs = {some_input('a'), some_input('b')};
    op.body = FileOp{{action}};
    return op;
}

// The JSON with its base64 parts decoded is what a reader can check; build it the same way.
std::string file_json(const std::vector<std::string>& actions, const std::string& indexes) {
    std::string out = R"({"Type":"buildkit.file.v0","Actions":[)";
    for (std::size_t i = 0; i < actions.size(); ++i) {
        out += (i == 0 ? "\"" : ",\"") + codec::base64_encode(actions[i]) + "\"";
    }
    return out + "]" + (indexes.empty() ? "" : ",\"indexes\":" + indexes) + "}";
}

TEST(FileCache, CopyKeepsOnlyTheBaseName) {
    CopyAction copy{.src = "/dir/main.c", .dest = "/src/"};
    copy.follow_symlink = copy.dir_copy_contents = copy.create_dest_path = true;
    copy.allow_wildcard = copy.allow_empty_wildcard = true;
    const OpCacheInfo info = info_of(copy_op(copy));
    // One action but two inputs: BuildKit's test for the default shape looks at the first action only.
    EXPECT_EQ(info.json, file_json({R"({"src":"main.c","dest":"/src/","mode":-1,"followSymlink":true,)"
                                    R"("dirCopyContents":true,"createDestPath":true,"allowWildcard":true,)"
                                    R"("allowEmptyWildcard":true,"timestamp":-1})"},
                                   ""));
    EXPECT_TRUE(info.inputs[0].definition_only());
    EXPECT_TRUE(info.inputs[0].selector.empty());
    EXPECT_EQ(info.inputs[1].selector, sha("/dir/main.c"));
    ASSERT_EQ(info.inputs[1].content.size(), 1U);
    EXPECT_EQ(info.inputs[1].content[0], (ContentSelector{.path = "/dir/main.c", .follow_links = true}));
}

TEST(FileCache, WildcardsAndPatterns) {
    CopyAction copy{.src = "/a/*.go", .dest = "/"};
    copy.allow_wildcard = true;
    copy.exclude_patterns = {"x"};
    const ContentSelector selector = info_of(copy_op(copy)).inputs[1].content.at(0);
    EXPECT_TRUE(selector.wildcard);
    EXPECT_EQ(selector.exclude_patterns, std::vector<std::string>{"x"});
    copy.src = R"(/a/\*.go)";
    EXPECT_FALSE(info_of(copy_op(copy)).inputs[1].content.at(0).wildcard);
}

TEST(FileCache, SeveralSourcesAreSortedBackwards) {
    FileAction first{.input = 0, .secondary_input = 1, .action = CopyAction{.src = "/a", .dest = "/"}};
    FileAction second{.input = 2, .secondary_input = 1, .output = 0, .action = CopyAction{.src = "/b", .dest = "/"}};
    Op op;
    op.inputs = {some_input('a'), some_input('b')};
    op.body = FileOp{{first, second}};
    const OpCacheInfo info = info_of(op);
    EXPECT_EQ(info.inputs[1].selector, sha(std::string("/b\0/a", 5)));
    EXPECT_EQ(info.inputs[1].content.size(), 2U);
    EXPECT_EQ(info.json, file_json({R"({"src":"a","dest":"/","mode":-1,"timestamp":-1})",
                                    R"({"src":"b","dest":"/","mode":-1,"timestamp":-1})"},
                                   ""));
    std::get<FileOp>(op.body).actions[1].input = 0;
    EXPECT_NE(info_of(op).json.find(R"("indexes":[[0,1,-1],[0,1,0]])"), std::string::npos);
}

TEST(FileCache, OwnersMkdirMkfileAndScratch) {
    FileAction dir{.output = 0,
                   .action = MkDirAction{"/a", 0755, true, ChownOpt{UserOpt{NamedUser{"bob", 0}}, {}}, -1}};
    dir.input = kEmpty;
    Op op;
    op.inputs = {some_input('a')};
    op.body = FileOp{{dir}};
    const OpCacheInfo info = info_of(op);
    EXPECT_EQ(info.json, file_json({R"({"path":"/a","mode":493,"makeParents":true,"owner":{"user":{"User":{"byName":)"
                                    R"({"name":"bob"}}}},"timestamp":-1})"},
                                   "[[-1,-1,0]]"));
    EXPECT_EQ(info.inputs[0].selector, sha("/etc/passwd"));

    FileAction file{
        .output = 0,
        .action = MkFileAction{"/f", 0644, "hi", ChownOpt{UserOpt{std::uint32_t{0}}, UserOpt{std::uint32_t{7}}}, 5}};
    Op scratch;
    scratch.body = FileOp{{file}};
    EXPECT_EQ(
        info_of(scratch).json,
        file_json(
            {R"({"path":"/f","mode":420,"data":"aGk=","owner":{"user":{"User":{}},"group":{"User":{"byId":7}}},"timestamp":5})"},
            "[[-1,-1,0]]"));
}

TEST(FileCache, BaseIsNeverHashedByContent) {
    CopyAction copy{.src = "/a", .dest = "/b"};
    FileAction action{.input = 0, .secondary_input = 0, .output = 0, .action = copy};
    Op op;
    op.inputs = {some_input('a')};
    op.body = FileOp{{action}};
    EXPECT_TRUE(info_of(op).inputs[0].definition_only());
    EXPECT_TRUE(info_of(op).inputs[0].selector.empty());
}

TEST(OtherCaches, MergeDiffPassthroughBuildSource) {
    Op merge;
    merge.inputs = {some_input('a'), some_input('b')};
    merge.body = MergeOp{{0, 1}};
    EXPECT_EQ(info_of(merge).json, R"({"Type":"buildkit.merge.v0","Merge":{"inputs":[{},{"input":1}]}})");
    Op diff;
    diff.inputs = {some_input('a')};
    diff.body = DiffOp{-1, 0};
    EXPECT_EQ(info_of(diff).json, R"({"Type":"buildkit.diff.v0","Diff":{"lower":{"input":-1},"upper":{}}})");
    Op pass;
    pass.inputs = {some_input('a')};
    pass.body = PassthroughOp{"p", {0}};
    EXPECT_EQ(info_of(pass).json, R"({"Type":"buildkit.passthrough.v0","Passthrough":{"id":"p","outputs":[0]}})");
    Op build;
    build.inputs = {some_input('a')};
    build.body = BuildOp{.inputs = {{"buildkit.llb.definition", 0}}, .attrs = {{"k", "v"}}};
    EXPECT_EQ(info_of(build).json, R"({"Type":"buildkit.build.v0","Exec":{"builder":-1,"inputs":)"
                                   R"({"buildkit.llb.definition":{}},"attrs":{"k":"v"}}})");
    EXPECT_EQ(source_cache_digest("x"), sha("buildkit.source.v0:x"));
    EXPECT_FALSE(cache_info(Op{.body = SourceOp{"local://x", {}}}, kAmd64));
}

TEST(GoText, EscapesLikeGo) {
    std::string out;
    codec::append_go_json_string(out, "a\"\\\b\f\n\r\t\x01<>&\xE2\x80\xA8\xFF\xC3\xA9");
    EXPECT_EQ(out, R"("a\"\\\b\f\n\r\t\u0001\u003c\u003e\u0026\u2028\ufffdé")");
}

}  // namespace
}  // namespace cooper::llb
