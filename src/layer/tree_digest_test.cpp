// The digests here are facts of BuildKit: its own contenthash tests expect the same ones for the same trees.
#include "layer/tree_digest.hpp"

#include "codec/sha256.hpp"
#include "snapshot/chain_view.hpp"
#include "snapshot/live_dir.hpp"

#include <cstdlib>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace cooper::layer {
namespace {

constexpr const char* kData0 = "sha256:cd8e75bca50f2d695f220d0cb0997d8ead387e4f926e8669a92d7f104cc9885b";
constexpr const char* kData1 = "sha256:c2b5e234f5f38fc5864da7def04782f82501a40d46192e4207d5b3f0c3c4732b";
constexpr const char* kD0 = "sha256:d47454417d2c554067fbefe5f5719edc49f3cfe969c36b62e34a187a4da0cc9a";
constexpr const char* kDoubleStar = "sha256:aa7448215bbf5b837b35ce64467857d8b9747965573d14d4b31b370586370971";

class TreeDigestTest : public ::testing::Test {
protected:
    void SetUp() override {
        std::string pattern = ::testing::TempDir() + "cooper-digest-XXXXXX";
        ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
        host_ = pattern;
        ASSERT_EQ(::mkdir((host_ + "/t").c_str(), 0755), 0);
        ASSERT_EQ(::chmod((host_ + "/t").c_str(), 0755), 0);
    }
    void TearDown() override { EXPECT_TRUE(sys::remove_tree_at(AT_FDCWD, host_)); }

    // "d/" makes a directory, "l>x" a link, "f=data" a file.
    void make(const std::vector<std::string>& specs) const {
        for (const auto& spec : specs) {
            const std::size_t at = spec.find_first_of(">=");
            const std::string path = host_ + "/t/" + spec.substr(0, at);
            if (at == std::string::npos) {
                ASSERT_EQ(::mkdir(path.c_str(), 0755), 0) << spec;
            } else if (spec[at] == '>') {
                ASSERT_EQ(::symlink(spec.substr(at + 1).c_str(), path.c_str()), 0) << spec;
            } else {
                write(spec.substr(0, at), spec.substr(at + 1));
            }
        }
    }
    void write(const std::string& name, const std::string& data) const {
        const sys::Fd fd(::open((host_ + "/t/" + name).c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
        ASSERT_TRUE(fd.valid());
        ASSERT_TRUE(sys::write_all(fd.get(), data));
    }
    // Old enough to be believed.
    void age(const std::string& name) const {
        const timespec times[2] = {{1'000'000, 0}, {1'000'000, 0}};
        ASSERT_EQ(::utimensat(AT_FDCWD, (host_ + "/t/" + name).c_str(), times, AT_SYMLINK_NOFOLLOW), 0);
    }
    snapshot::TreeRef live() const {
        return *snapshot::LiveDir::create(std::move(*sys::RootedDir::open_host(host_ + "/t")), {});
    }
    snapshot::TreeRef chain() const {
        return *snapshot::ChainView::create(*snapshot::open_layers({{1, host_ + "/t"}}),
                                            snapshot::ChainView::TopLayer::committed);
    }
    std::string sum(const ContentSelector& selector) const {
        std::string answers[2];
        TreeDigester a(live(), {}, 2);
        TreeDigester b(chain(), {}, 1);
        for (int i = 0; i < 2; ++i) {
            auto digest = (i == 0 ? a : b).digest(selector, {});
            answers[i] = digest ? digest->to_string() : digest.error().to_string();
        }
        // The root itself counts in a layer only.
        if (!selector.path.empty() && selector.path != "/") {
            EXPECT_EQ(answers[0], answers[1]);
        }
        return answers[1];
    }
    std::string plain(const std::string& path) const { return sum({.path = path, .follow_links = true}); }
    std::string host_;
};

TEST_F(TreeDigestTest, TheRootOfALiveDirectoryIsNotAPartOfIt) {
    make({"foo=data0"});
    const auto digest = [this] { return TreeDigester(live(), {}, 1).digest({.path = "/"}, {}).value().to_string(); };
    const std::string before = digest();
    ASSERT_EQ(::chmod((host_ + "/t").c_str(), 0700), 0);
    EXPECT_EQ(digest(), before);
    ASSERT_EQ(::chmod((host_ + "/t/foo").c_str(), 0700), 0);
    EXPECT_NE(digest(), before);
}

TEST_F(TreeDigestTest, FilesDirectoriesAndLinks) {
    make({"foo=data0", "bar=data1", "d0", "d0/abc=data0", "d0/def>abc", "d0/ghi>nosuchfile"});
    EXPECT_EQ(plain("foo"), kData0);
    EXPECT_EQ(plain("bar"), kData1);
    EXPECT_EQ(plain("d0/def"), kData0);
    EXPECT_EQ(plain("/"), "sha256:427c9cf9ae98c0f81fb57a3076b965c7c149b6b0a85625ad4e884236649a42c6");
    EXPECT_EQ(plain("d0"), kD0);
    EXPECT_EQ(plain("d0/ghi"), "\"/d0/ghi\": not found");
    EXPECT_EQ(plain("nosuch"), "\"/nosuch\": not found");
    TreeDigester digester(live(), {}, 1);
    EXPECT_EQ(digester.digest({.path = "x"}, {}).error().code(), Code::not_found);
}

TEST_F(TreeDigestTest, NamesSortByComponent) {
    make({"d0", "d0/foo", "d0/foo/bar=data0", "d0/foo-subdir", "d0/foo.subdir=data1"});
    EXPECT_EQ(plain("d0"), "sha256:14276c302c940a80f82ca5477bf766c98a24702d6a9948ee71bb277cdad3ae05");
}

TEST_F(TreeDigestTest, HardLinksAreTheirContentAndModesCount) {
    make({"d0", "d0/bar=data0", "d0/subdir1", "d0/subdir1/baz=data1", "d0/subdir2"});
    EXPECT_EQ(plain("d0"), "sha256:e76717544f71725bd759a981554ca17c286b3d222598f46a671b983fd2b8172d");
    ASSERT_EQ(::chmod((host_ + "/t/d0").c_str(), 0700), 0);
    EXPECT_EQ(plain("d0"), "sha256:3a729f6ba0d3d74c6ade7d118b08b46e37e447afdad7fc6e258dbba12fa80141");
    ASSERT_EQ(::link((host_ + "/t/d0/bar").c_str(), (host_ + "/t/ln").c_str()), 0);
    EXPECT_EQ(plain("ln"), kData0);
    ASSERT_EQ(::setxattr((host_ + "/t/ln").c_str(), "user.x", "1", 1, 0), 0);
    EXPECT_NE(plain("ln"), kData0);
    ASSERT_EQ(::setxattr((host_ + "/t/ln").c_str(), "user.x", "2", 1, 0), 0);
    EXPECT_NE(plain("ln"), kData0);
}

// Of any tree: what a copy that replaces modes cannot tell from it.
TEST_F(TreeDigestTest, AlikeIsTheTreeWithUsualModes) {
    make({"d0", "d0/bar=data0", "d0/subdir1", "d0/subdir1/baz=data1", "d0/empty=", "d0/link>bar", "tool=data1"});
    const std::vector<ContentSelector> selectors[] = {
        {{.path = "d0", .follow_links = true}, {.path = "tool"}},
        {{.path = "d0/*", .wildcard = true, .follow_links = true}},
        {{.path = "d0", .follow_links = true, .exclude = {"empty"}}},
        {{.path = "d0/subdir1/baz"}, {.path = "d0/link", .follow_links = true}},
        {{.path = "/d0/subdir1"}, {.path = "d0", .include = {"subdir1/baz"}}},
    };
    const auto chmod = [&](const char* name, mode_t mode) {
        ASSERT_EQ(::chmod((host_ + "/t/" + name).c_str(), mode), 0);
    };
    for (const snapshot::TreeRef& tree : {live(), chain()}) {
        for (const auto& some : selectors) {
            for (const char* name : {"d0/bar", "d0/subdir1/baz", "d0/empty", "tool"}) chmod(name, 0644);
            chmod("d0", 0755);
            chmod("d0/subdir1", 0755);
            const Digest usual = TreeDigester(tree, {}, 1).digest_all(some, {}).value();
            for (const char* name : {"d0/bar", "d0/subdir1/baz", "d0/empty", "tool"}) chmod(name, 04700);
            chmod("d0", 0700);
            chmod("d0/subdir1", 0711);
            TreeDigester digester(tree, {}, 2);
            const Digest own = digester.digest_all(some, {}).value();
            EXPECT_NE(own, usual);
            EXPECT_EQ(digester.digest_alike(some, {.mode = "0"}, {}).value(), usual);
            // What was read for that is not read again, and does not disturb the digest of the tree as it is.
            EXPECT_EQ(digester.digest_alike(some, {.mode = "0"}, {}).value(), usual);
            EXPECT_EQ(digester.digest_all(some, {}).value(), own);
            EXPECT_EQ(digester.digest_alike(some, {.mode = "u=rwX,go=rX"}, {}).value() == usual, false);
            for (const char* name : {"d0/bar", "d0/subdir1/baz", "d0/empty", "tool"}) chmod(name, 0600);
            EXPECT_EQ(TreeDigester(tree, {}, 1).digest_all(some, {}).value() == usual, false);
            TreeDigester symbolic(tree, {}, 1);
            EXPECT_TRUE(symbolic.digest_all(some, {}));
            EXPECT_EQ(symbolic.digest_alike(some, {.mode = "u=rwX,go=rX"}, {}).value(), usual);
            std::size_t files = 0;
            for (const auto& selector : some) {
                const auto listed = symbolic.list(selector, {.mode = "0"}, 100, {}).value().value();
                for (const auto& file : listed) {
                    ++files;
                    const bool is_directory = file.node.kind == snapshot::Kind::directory;
                    if (file.node.kind == snapshot::Kind::symlink) continue;
                    EXPECT_EQ(file.node.mode, is_directory ? 0755U : 0644U) << file.path;
                }
            }
            EXPECT_GT(files, 1U);
        }
    }
}

TEST_F(TreeDigestTest, AlikeIsOfWhatTheDigestHasSeen) {
    make({"d", "d/a=one", "d/b=two"});
    for (const char* name : {"a", "b"}) ASSERT_EQ(::chmod((host_ + "/t/d/" + name).c_str(), 0600), 0);
    const std::vector<ContentSelector> whole{{.path = "d"}};
    TreeDigester digester(live(), {}, 1);
    ASSERT_TRUE(digester.digest_all(whole, {}));
    // Another file is not seen; a file that is another one since is an error.
    write("d/c", "three");
    const Digest alike = digester.digest_alike(whole, {.mode = "0"}, {}).value();
    ASSERT_EQ(::unlink((host_ + "/t/d/c").c_str()), 0);
    TreeDigester later(live(), {}, 1);
    ASSERT_TRUE(later.digest_all(whole, {}));
    EXPECT_EQ(later.digest_alike(whole, {.mode = "0"}, {}).value(), alike);
    TreeDigester changed(live(), {}, 1);
    ASSERT_TRUE(changed.digest_all(whole, {}));
    write("d/b", "more");
    EXPECT_EQ(changed.digest_alike(whole, {.mode = "0"}, {}).error().code(), Code::aborted);
}

TEST_F(TreeDigestTest, WhatWasReadForAlikeIsRemembered) {
    make({"d", "d/a=one", "d/b=two", "d/c=three"});
    for (const char* name : {"d/a", "d/b"}) {
        ASSERT_EQ(::chmod((host_ + "/t/" + name).c_str(), 0600), 0);
    }
    for (const char* name : {"d/a", "d/b", "d/c"}) age(name);
    ::usleep(50'000);  // so that their change time is old enough to be believed, too
    const std::vector<ContentSelector> whole{{.path = "d"}};
    DigestTable own;
    DigestTable usual;
    std::string digests[3];
    for (int round = 0; round < 3; ++round) {
        SCOPED_TRACE(round);
        if (round == 2) write("d/b", "2");
        TreeDigester digester(live(), own, 1);
        digester.remember_usual([&] { return usual; });
        ASSERT_TRUE(digester.digest_all(whole, {}));
        const auto read = digester.counters().files_read;
        EXPECT_EQ(read, round == 0 ? 3U : round == 1 ? 0U : 1U);
        digests[round] = digester.digest_alike(whole, {.mode = "0"}, {}).value().to_string();
        TreeDigester fresh(live(), {}, 1);
        ASSERT_TRUE(fresh.digest_all(whole, {}));
        EXPECT_EQ(digests[round], fresh.digest_alike(whole, {.mode = "0"}, {}).value().to_string());
        const auto learnt = digester.take_usual();
        EXPECT_EQ(learnt.has_value(), round != 1);
        EXPECT_FALSE(digester.take_usual());
        if (learnt) usual = *learnt;
        own = digester.table();
    }
    EXPECT_EQ(digests[0], digests[1]);
    EXPECT_NE(digests[1], digests[2]);
}

TEST_F(TreeDigestTest, AlikeOwnersAreRoot) {
    if (::getuid() != 0) GTEST_SKIP() << "needs root";
    make({"d", "d/a=data0", "d/link>a"});
    const std::vector<ContentSelector> whole{{.path = "d"}};
    const Digest usual = TreeDigester(chain(), {}, 1).digest_all(whole, {}).value();
    for (const char* name : {"d", "d/a", "d/link"}) ASSERT_EQ(::lchown((host_ + "/t/" + name).c_str(), 5, 6), 0);
    TreeDigester digester(chain(), {}, 1);
    EXPECT_NE(digester.digest_all(whole, {}).value(), usual);
    EXPECT_NE(digester.digest_alike(whole, {.mode = "0"}, {}).value(), usual);
    EXPECT_EQ(digester.digest_alike(whole, {.owner = true}, {}).value(), usual);
    EXPECT_EQ(digester.digest_alike(whole, {.mode = "0", .owner = true}, {}).value(), usual);
}

TEST_F(TreeDigestTest, WildcardsAndFollowing) {
    make({"bar=data1", "foo=data0", "fox=data2", "x", "x/d0", "x/d0/abc=data0", "x/d0/def>abc", "x/d0/ghi>nosuchfile",
          "y1>foo", "y2>fox"});
    EXPECT_EQ(sum({.path = "f*o", .wildcard = true}), codec::sha256_of(std::string("\0foo", 4) + kData0).to_string());
    EXPECT_EQ(sum({.path = "f*", .wildcard = true}),
              "sha256:0b6731924f0a32a812bf8a729202e55e54ded331f9e4ff2397f681e43694e086");
    EXPECT_EQ(sum({.path = "x/d?", .wildcard = true}),
              "sha256:6b612ad5c13159112ae26357ef7bd34df29916941ba40ec2ce38dfb70c6c60c3");
    EXPECT_EQ(sum({.path = "x/d?/def", .wildcard = true, .follow_links = true}), kData0);
    EXPECT_EQ(sum({.path = "y*", .wildcard = true, .follow_links = true}),
              "sha256:982153600b9653a1decb0f961e09e2bc1be335cfcaac9b39dbd1120b65fdf92c");
    EXPECT_EQ(sum({.path = "nothing*", .wildcard = true}), codec::sha256_of("").to_string());
}

TEST_F(TreeDigestTest, LinksThatAreNotFollowed) {
    make({"target=data0", "sym>target", "sym2>target2", "foo", "foo/ghi>target", "y1>foo/ghi"});
    const std::string sym = "sha256:a2ba571981f48ec34eb79c9a3ab091b6491e825c2f7e9914ea86e8e958be7fae";
    EXPECT_EQ(sum({.path = "sym", .wildcard = true}), sym);
    EXPECT_EQ(sum({.path = "foo/ghi", .wildcard = true}), sym);
    EXPECT_EQ(sum({.path = "foo/ghi"}), sym);
    EXPECT_NE(sum({.path = "sym2", .wildcard = true}), sym);
    EXPECT_EQ(sum({.path = "foo/ghi", .wildcard = true, .follow_links = true}), "\"/foo/ghi\": not found");
    const std::string foo = "sha256:9b761577efcb1239cf4be971914c5d7404914dd32ff436401af1764dc5446b83";
    EXPECT_EQ(sum({.path = "foo"}), foo);
    EXPECT_EQ(sum({.path = "foo", .exclude = {"*.git"}}), foo);
    EXPECT_EQ(sum({.path = "fo?", .wildcard = true}),
              "sha256:2797e710c6d1a89ff2d91c834b828b1dc500f2982430a58241df8e146f4c4bb4");
}

TEST_F(TreeDigestTest, IncludeAndExclude) {
    make({"foo=data0", "bar=data1", "baz=data2", "d0", "d0/abc=abc", "d0/xyz=xyz", "d1", "d1/def=def", "d2"});
    for (const bool wildcard : {false, true}) {
        const auto with = [&](std::vector<std::string> include, std::vector<std::string> exclude) {
            return sum(
                {.path = "", .wildcard = wildcard, .include = std::move(include), .exclude = std::move(exclude)});
        };
        const std::string nothing = codec::sha256_of("").to_string();
        EXPECT_EQ(with({"d0/a*"}, {}), with({"**/abc"}, {}));
        EXPECT_EQ(with({"d0/a*"}, {}), with({"d0/*"}, {"d0/xyz"}));
        EXPECT_NE(with({"d0/a*"}, {}), with({"d0/*"}, {}));
        EXPECT_NE(with({"foo"}, {}), with({"foo", "bar"}, {}));
        EXPECT_EQ(with({"d2/foo"}, {}), nothing);
        EXPECT_NE(with({"d2"}, {}), nothing);
    }
    EXPECT_EQ(sum({.path = "/d0", .include = {"abc"}, .required = {"gone"}}), "\"/d0/gone\": not found");
    EXPECT_EQ(sum({.path = "/d0", .include = {"abc"}, .required = {"abc"}}), sum({.path = "/d0", .include = {"abc"}}));
}

TEST_F(TreeDigestTest, DoubleStarAndLinkedBase) {
    make({"prefix", "prefix/a", "prefix/a/b", "prefix/a/b/c", "prefix/a/b/c/foo", "prefix/a/b/c/foo/bar=abc", "mnt",
          "mnt/p>../prefix", "top>prefix/a"});
    for (const bool wildcard : {false, true}) {
        EXPECT_EQ(sum({.path = "prefix/a", .wildcard = wildcard, .include = {"**/foo/**", "**/report"}}), kDoubleStar);
        EXPECT_EQ(sum({.path = "prefix/a", .wildcard = wildcard, .include = {"**/foo", "**/report"}}), kDoubleStar);
        EXPECT_EQ(sum({.path = "mnt/p/a", .wildcard = wildcard, .include = {"**/foo"}}), kDoubleStar);
        EXPECT_EQ(sum({.path = "prefix/a", .wildcard = wildcard, .include = {"**/nope/**"}}),
                  codec::sha256_of("").to_string());
    }
    EXPECT_EQ(sum({.path = "mnt/p/a/b/c*/foo", .wildcard = true, .include = {"bar"}}),
              sum({.path = "prefix/a/b/c*/foo", .wildcard = true, .include = {"bar"}}));
    EXPECT_EQ(sum({.path = "top/b*/c", .wildcard = true}), sum({.path = "prefix/a/b*/c", .wildcard = true}));
}

TEST_F(TreeDigestTest, SelectorsAreJoinedAndScratchIsEmpty) {
    make({"foo=data0"});
    TreeDigester digester(chain(), {}, 2);
    const std::vector<ContentSelector> two{{.path = "foo"}, {.path = "/"}};
    const std::string whole = plain("/");
    EXPECT_EQ(digester.digest_all(two, {})->to_string(),
              codec::sha256_of(std::string(kData0) + std::string(1, '\0') + whole).to_string());
    EXPECT_EQ(digester.digest_all({}, {})->to_string(), codec::sha256_of(whole).to_string());
    const std::vector<ContentSelector> root{{.path = "/"}};
    EXPECT_EQ(*digest_of_scratch(root), codec::sha256_of(codec::sha256_of("").to_string()));
    EXPECT_FALSE(digest_of_scratch(std::vector<ContentSelector>{{.path = "x"}}));
}

TEST_F(TreeDigestTest, TableSparesReadingButNotNoticing) {
    make({"a=data0", "d", "d/b=data1", "d/l>b"});
    for (const char* name : {"a", "d/b", "d/l"}) age(name);
    const std::string file = host_ + "/table";
    std::string before;
    {
        TreeDigester digester(live(), {}, 2);
        before = digester.digest({.path = "/"}, {})->to_string();
        EXPECT_EQ(digester.counters().files_read, 3U);
        EXPECT_TRUE(digester.learnt());
        DigestTable table = digester.table();
        table.scanned_ns += 3'600'000'000'000;  // as if the scan had been long after the changes (ctime is now)
        ASSERT_TRUE(table.save(file, "key"));
    }
    EXPECT_TRUE(DigestTable::load(file, "other key").empty());
    EXPECT_TRUE(DigestTable::load(file + "x", "key").empty());
    {
        TreeDigester digester(live(), DigestTable::load(file, "key"), 2);
        EXPECT_EQ(digester.digest({.path = "/"}, {})->to_string(), before);
        EXPECT_EQ(digester.counters().files_read, 0U);
        EXPECT_FALSE(digester.learnt());
    }
    {
        // A scan too close to the file's times is not believed.
        DigestTable racy = DigestTable::load(file, "key");
        racy.scanned_ns = 0;
        TreeDigester digester(live(), std::move(racy), 2);
        EXPECT_EQ(digester.digest({.path = "/"}, {})->to_string(), before);
        EXPECT_EQ(digester.counters().files_read, 3U);
    }
    write("d/b", "data2");
    {
        TreeDigester digester(live(), DigestTable::load(file, "key"), 2);
        EXPECT_NE(digester.digest({.path = "/"}, {})->to_string(), before);
        EXPECT_EQ(digester.counters().files_read, 1U);
        EXPECT_EQ(digester.table().entries.size(), 6U);  // two own records, a, b, d, l
    }
    // Damage gives nothing, not lies.
    const sys::Fd fd(::open(file.c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_EQ(::pwrite(fd.get(), "x", 1, 200), 1);
    EXPECT_TRUE(DigestTable::load(file, "key").empty());
}

TEST_F(TreeDigestTest, ChainTableNeedsNoDisk) {
    make({"a=data0", "d", "d/b=data1", "d/e", "d/e/f=data2"});
    DigestTable table;
    std::string whole;
    std::string part;
    {
        TreeDigester digester(chain(), {}, 2);
        whole = digester.digest({.path = "/"}, {})->to_string();
        part = digester.digest({.path = "d/*", .wildcard = true}, {})->to_string();
        table = digester.table();
    }
    TreeDigester digester(chain(), std::move(table), 2);
    EXPECT_EQ(digester.digest({.path = "/"}, {})->to_string(), whole);
    EXPECT_EQ(digester.digest({.path = "d/*", .wildcard = true}, {})->to_string(), part);
    EXPECT_EQ(digester.counters().files_read, 0U);
    EXPECT_EQ(digester.counters().dirs_listed, 0U);
    EXPECT_FALSE(digester.learnt());
}

TEST_F(TreeDigestTest, OnlyWhatIsSelectedIsTouched) {
    make({"big", "want=data0"});
    for (int i = 0; i < 50; ++i) write("big/f" + std::to_string(i), "x");
    TreeDigester digester(live(), {}, 2);
    EXPECT_EQ(digester.digest({.path = "want", .wildcard = true, .follow_links = true}, {})->to_string(), kData0);
    EXPECT_TRUE(digester.digest({.path = "big/f1?", .wildcard = true}, {}));
    EXPECT_EQ(digester.counters().files_read, 11U);
    EXPECT_EQ(digester.counters().dirs_listed, 1U);
    EXPECT_TRUE(digester.hashed_node("/want"));
    EXPECT_TRUE(digester.hashed_node("/big/f10"));
    EXPECT_FALSE(digester.hashed_node("/big/f2"));
}

}  // namespace
}  // namespace cooper::layer
