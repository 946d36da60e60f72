#include "source/git.hpp"

#include "base/text.hpp"
#include "session/session.hpp"
#include "sys/process.hpp"
#include "sys/temp_dir.hpp"

#include <gtest/gtest.h>
#include <map>
#include <sys/stat.h>

namespace cooper::source {
namespace {

class FakeSession final : public session::Session {
public:
    Result<std::optional<session::Secret>> find_secret(const std::string& id, Stop /*stop*/) override {
        asked.push_back(id);
        const auto found = secrets.find(id);
        if (found == secrets.end()) return std::optional<session::Secret>();
        return std::optional(session::Secret(found->second));
    }
    Result<std::unique_ptr<session::SshSocket>> open_ssh(const std::string& /*id*/,
                                                         const session::SocketOwner& /*owner*/,
                                                         Stop /*stop*/) override {
        return std::unique_ptr<session::SshSocket>();
    }
    std::map<std::string, std::string> secrets;
    std::vector<std::string> asked;
};

TEST(GitUrl, ParsesEveryForm) {
    const auto url = GitUrl::parse("https://user:pw@github.com/moby/buildkit.git#v1.0:docs/x");
    ASSERT_TRUE(url);
    EXPECT_EQ(url->host, "github.com");
    EXPECT_EQ(url->ref, "v1.0");
    EXPECT_EQ(url->subdir, "docs/x");
    EXPECT_EQ(url->remote(), "https://user:pw@github.com/moby/buildkit.git");
    EXPECT_EQ(url->remote_without_credentials(), "https://github.com/moby/buildkit.git");
    EXPECT_EQ(GitUrl::parse("git@github.com:moby/buildkit.git#main")->remote(), "git@github.com:moby/buildkit.git");
    EXPECT_EQ(GitUrl::parse("ssh://git@host:22/x")->remote_without_credentials(), "ssh://git@host:22/x");
    EXPECT_EQ(GitUrl::parse("file:///a/b")->remote(), "file:///a/b");
    EXPECT_EQ(GitUrl::parse("https://h/x#:sub/./dir/")->subdir, "sub/dir");
}

TEST(GitUrl, RefusesHostileOnes) {
    for (const char* text : {"",
                             "-x",
                             "--upload-pack=touch /tmp/x",
                             "ext::sh -c x",
                             "ssh://-oProxyCommand=x/y",
                             "-a@h:x",
                             "u@-h:x",
                             "u@h:-x",
                             "https://h",
                             "https:///x",
                             "file://host/x",
                             "https://h/x#-f",
                             "https://h/x#a..b",
                             "https://h/x#a b",
                             "https://h/x#a:../..",
                             "https://h/x\ny",
                             "transport::https://h/x",
                             "https://h'/x",
                             "u@h",
                             "ftp://h/x",
                             "ssh://-x@h/y",
                             "https://h/x#a~1",
                             "https://h/x#@{u}",
                             ".@]:x",
                             "ext::u@h:x"}) {
        EXPECT_FALSE(GitUrl::parse(text)) << text;
    }
}

TEST(GitRequest, ReadsIdentifierAndAttributes) {
    const auto request =
        git_request("github.com/a/b#main:dir", {{"git.fullurl", "https://github.com/a/b"}, {"git.keepgitdir", "true"}});
    ASSERT_TRUE(request) << request.error().to_string();
    EXPECT_EQ(request->url.remote(), "https://github.com/a/b");
    EXPECT_EQ(request->url.ref, "main");
    EXPECT_EQ(request->url.subdir, "dir");
    EXPECT_TRUE(request->keep_git_dir);
    EXPECT_EQ(git_request("host/x.git", {})->url.remote(), "https://host/x.git");
    EXPECT_FALSE(git_request("host/x.git", {{"git.checksum", "xyz"}}));
    EXPECT_FALSE(git_request("host/x.git", {{"git.keepgitdir", "maybe"}}));
    EXPECT_EQ(git_request("host/x.git", {{"git.sig.pubkey", "k"}}).error().code(), Code::unimplemented);
    EXPECT_FALSE(git_request("host/x.git#main", {{"git.fetchbycommit", "true"}}));
}

class GitTest : public ::testing::Test {
protected:
    void SetUp() override {
        dir_ = std::move(*sys::TempDir::create(::testing::TempDir(), "git"));
        store_ = std::move(*store::Store::open(dir_.path() + "/state", clock_));
        source_ = std::make_unique<GitSource>(*store_);
        repo_ = dir_.path() + "/repo";
        sh("git init -q -b main repo && cd repo && mkdir -p sub/deep && echo one > file && echo in > sub/inner && "
           "printf '#!/bin/sh\\n' > run && chmod +x run && ln -s file link && ln -s sub alias && git add . && "
           "git commit -q -m first && git tag light && git tag -a -m note annotated && "
           "echo two > file && git commit -q -am second && git branch other && git tag other");
    }
    std::string sh(const std::string& script) {
        sys::SpawnSpec spec{.program = "/bin/sh", .args = {"sh", "-ec", script}, .cwd = dir_.path()};
        spec.env = std::vector<std::string>{"PATH=/usr/bin:/bin",
                                            "GIT_CONFIG_GLOBAL=/dev/null",
                                            "GIT_AUTHOR_NAME=a",
                                            "GIT_AUTHOR_EMAIL=a@b",
                                            "GIT_COMMITTER_NAME=a",
                                            "GIT_COMMITTER_EMAIL=a@b",
                                            "GIT_COMMITTER_DATE=1700000000 +0000"};
        const auto done = sys::run_captured(std::move(spec), "", 1u << 20, stop_);
        EXPECT_TRUE(done && done->status.code == 0) << script << (done ? done->err : done.error().to_string());
        return done ? std::string(trim(done->out)) : "";
    }
    [[nodiscard]] GitRequest request(const std::string& fragment) const {
        return GitRequest{.url = *GitUrl::parse("file://" + repo_ + fragment)};
    }
    // Pins and fetches; the layer's path.
    std::string get(const GitRequest& asked) {
        const auto pinned = source_->pin(asked, session_, nullptr, stop_);
        if (!pinned) return "error: " + pinned.error().to_string();
        const auto chain = source_->fetch(asked, *pinned, session_, nullptr, stop_);
        if (!chain) return "error: " + chain.error().to_string();
        return store_->layer_path(chain->layers.at(0));
    }
    std::string cat(const std::string& path) { return sh("cat '" + path + "'"); }
    SystemClock clock_;
    sys::TempDir dir_;
    std::unique_ptr<store::Store> store_;
    std::unique_ptr<GitSource> source_;
    FakeSession session_;
    std::string repo_;
    Stop stop_;
};

TEST_F(GitTest, PinsRefsAsBuildKitDoes) {
    const std::string head = sh("git -C repo rev-parse HEAD");
    const std::string first = sh("git -C repo rev-parse HEAD~1");
    const std::string tag = sh("git -C repo rev-parse annotated");
    const auto key = [&](GitRequest asked) {
        const auto pinned = source_->pin(asked, session_, nullptr, stop_);
        return pinned ? pinned->key : "error: " + pinned.error().to_string();
    };
    EXPECT_EQ(key(request("")), head);
    EXPECT_EQ(key(request("#main")), head);
    EXPECT_EQ(key(request("#refs/heads/main")), head);
    EXPECT_EQ(key(request("#light")), first);
    EXPECT_EQ(key(request("#annotated")), first);
    EXPECT_EQ(key(request("#" + first)), first);
    EXPECT_EQ(key(request("#main:sub")), head + ":sub");
    GitRequest kept = request("#annotated");
    kept.keep_git_dir = true;
    EXPECT_EQ(key(kept), tag + ".git#refs/tags/annotated");
    GitRequest odd = request("#main");
    odd.skip_submodules = true;
    odd.mtime = GitMtime::commit;
    EXPECT_EQ(key(odd), head + "(skip-submodules)(mtime=commit)");
    EXPECT_TRUE(key(request("#nothing")).starts_with("error: "));
    GitRequest sum = request("#annotated");
    sum.checksum = first.substr(0, 10);
    EXPECT_EQ(key(sum), first);
    sum.checksum = tag;
    EXPECT_EQ(key(sum), first);
    sum.checksum = "0000";
    EXPECT_TRUE(key(sum).starts_with("error: "));
}

TEST_F(GitTest, ChecksOutFilesModesAndLinks) {
    const std::string path = get(request("#main"));
    EXPECT_EQ(cat(path + "/file"), "two");
    EXPECT_EQ(sh("cd '" + path + "' && find . | LC_ALL=C sort | tr '\\n' ' '"),
              ". ./alias ./file ./link ./run ./sub ./sub/inner");
    EXPECT_EQ(sh("stat -c %a '" + path + "/run' '" + path + "/file' '" + path + "/sub' | tr '\\n' ' '"), "755 644 755");
    EXPECT_EQ(sh("readlink '" + path + "/link'"), "file");
    EXPECT_EQ(sh("ls -a '" + path + "' | grep -c git || true"), "0");
    EXPECT_EQ(get(request("#main")), path);  // nothing is done twice
    EXPECT_EQ(cat(get(request("#light")) + "/file"), "one");
    EXPECT_EQ(cat(get(request("#" + sh("git -C repo rev-parse HEAD~1"))) + "/file"), "one");
}

TEST_F(GitTest, SubdirectoriesMustBeReal) {
    EXPECT_EQ(cat(get(request("#main:sub")) + "/inner"), "in");
    EXPECT_TRUE(get(request("#main:alias")).starts_with("error: "));
    EXPECT_TRUE(get(request("#main:none")).starts_with("error: "));
    EXPECT_TRUE(get(request("#main:file")).starts_with("error: "));
}

TEST_F(GitTest, KeepsTheGitDirWithoutCredentials) {
    GitRequest kept = request("#main");
    kept.keep_git_dir = true;
    const std::string path = get(kept);
    EXPECT_EQ(sh("git -c safe.directory='*' -C '" + path + "' status --porcelain"), "");
    EXPECT_EQ(sh("git -c safe.directory='*' -C '" + path + "' rev-parse HEAD"), sh("git -C repo rev-parse HEAD"));
    EXPECT_EQ(sh("git -c safe.directory='*' -C '" + path + "' remote get-url origin"), "file://" + repo_);
    EXPECT_EQ(sh("test -e '" + path + "/.git/FETCH_HEAD' && echo yes || echo no"), "no");
}

TEST_F(GitTest, MtimeOfTheCommit) {
    GitRequest asked = request("#main");
    asked.mtime = GitMtime::commit;
    const std::string path = get(asked);
    EXPECT_EQ(sh("stat -c %Y '" + path + "/file' '" + path + "/sub' | sort -u"), "1700000000");
}

TEST_F(GitTest, FetchesThePinnedCommitAfterTheBranchMoved) {
    const GitRequest asked = request("#main");
    const auto pinned = source_->pin(asked, session_, nullptr, stop_);
    ASSERT_TRUE(pinned);
    sh("cd repo && echo three > file && git commit -q -am third");
    const auto chain = source_->fetch(asked, *pinned, session_, nullptr, stop_);
    ASSERT_TRUE(chain) << chain.error().to_string();
    EXPECT_EQ(cat(store_->layer_path(chain->layers[0]) + "/file"), "two");
}

TEST_F(GitTest, SubmodulesMayNotReachIntoThisMachine) {
    sh("git init -q -b main inner && cd inner && echo secret > s && git add . && git commit -q -m x");
    sh("cd repo && git -c protocol.file.allow=always submodule add -q file://" + dir_.path() +
       "/inner mod 2>/dev/null && git commit -q -m mod");
    const std::string refused = get(request("#main"));
    EXPECT_NE(refused.find("transport 'file' not allowed"), std::string::npos) << refused;
    GitRequest skipping = request("#main");
    skipping.skip_submodules = true;
    const std::string path = get(skipping);
    EXPECT_EQ(sh("ls -A '" + path + "/mod' | wc -l"), "0");
}

TEST_F(GitTest, HooksAndConfigurationOfOthersDoNotRun) {
    sh("mkdir -p tmpl/hooks && printf '#!/bin/sh\\ntouch " + dir_.path() +
       "/ran\\n' > tmpl/hooks/post-checkout && "
       "chmod +x tmpl/hooks/post-checkout && printf '[init]\\n templateDir=" +
       dir_.path() + "/tmpl\\n' > gitconfig");
    setenv("GIT_CONFIG_GLOBAL", (dir_.path() + "/gitconfig").c_str(), 1);
    GitRequest kept = request("#main");
    kept.keep_git_dir = true;
    EXPECT_FALSE(get(kept).starts_with("error: "));
    unsetenv("GIT_CONFIG_GLOBAL");
    EXPECT_EQ(sh("test -e ran && echo yes || echo no"), "no");
}

TEST_F(GitTest, AsksForSecretsInOrder) {
    GitRequest asked;
    asked.url = *GitUrl::parse("http://127.0.0.1:1/x.git#main");
    asked.auth_header_secret = "GIT_AUTH_HEADER";
    asked.auth_token_secret = "GIT_AUTH_TOKEN";
    const auto pinned = source_->pin(asked, session_, nullptr, stop_);
    ASSERT_FALSE(pinned);
    EXPECT_EQ(session_.asked, (std::vector<std::string>{"GIT_AUTH_HEADER.127.0.0.1:1", "GIT_AUTH_TOKEN.127.0.0.1:1",
                                                        "GIT_AUTH_HEADER", "GIT_AUTH_TOKEN"}));
}

}  // namespace
}  // namespace cooper::source
