#include "store/store.hpp"

#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace cooper::store {
namespace {

class StoreTest : public ::testing::Test {
protected:
    void SetUp() override {
        std::string path = ::testing::TempDir() + "store-XXXXXX";
        ASSERT_NE(::mkdtemp(path.data()), nullptr);
        root_ = path;
        open();
    }
    void TearDown() override {
        store_.reset();
        const std::size_t slash = root_.rfind('/');
        const auto parent = sys::RootedDir::open_host(root_.substr(0, slash));
        ASSERT_TRUE(parent);
        EXPECT_TRUE(remove_deep_tree(*parent, root_.substr(slash + 1)));
    }
    void open() {
        store_.reset();
        auto opened = Store::open(root_, clock_);
        ASSERT_TRUE(opened) << opened.error().to_string();
        store_ = std::move(*opened);
    }
    LayerId add_layer() {
        auto draft = store_->begin_layer();
        EXPECT_TRUE(draft);
        return std::move(*draft).commit(LayerInfo{.description = "x", .size_bytes = 10}).value_or(0);
    }
    bool is_there(const std::string& name) const { return ::access((root_ + "/" + name).c_str(), F_OK) == 0; }

    SystemClock clock_;
    std::string root_;
    std::unique_ptr<Store> store_;
};

TEST_F(StoreTest, BlobHasItsNameOnlyWhenItsDigestIsRight) {
    auto good = store_->put_blob("hello", "text/plain");
    ASSERT_TRUE(good);
    EXPECT_EQ(store_->read_blob(good->digest, 100).value_or(""), "hello");
    auto ingest = store_->begin_blob();
    ASSERT_TRUE(ingest);
    ASSERT_TRUE(ingest->write(as_bytes("other")));
    const auto wrong = std::move(*ingest).commit(good->digest);
    ASSERT_FALSE(wrong);
    EXPECT_EQ(wrong.error().code(), Code::data_loss);
    EXPECT_FALSE(store_->blob_size(codec::sha256_of("other")).value().has_value());
}

TEST_F(StoreTest, DamagedBlobIsFoundAndForgotten) {
    const auto blob = store_->put_blob("hello", "text/plain");
    ASSERT_TRUE(blob);
    const std::string path = root_ + "/blobs/sha256/" + blob->digest.hex();
    ASSERT_EQ(::truncate(path.c_str(), 2), 0);
    EXPECT_EQ(store_->verify().value().size(), 1U);
    EXPECT_FALSE(store_->read_blob(blob->digest, 100));
    EXPECT_TRUE(store_->verify().value().empty());
}

TEST_F(StoreTest, BranchHoldsWhatIsMadeThroughItWhileItIsInUse) {
    auto branch = store_->branch("test").value();
    auto use = branch->use();
    auto draft = branch->begin_layer();
    ASSERT_TRUE(draft);
    const LayerId id = std::move(*draft).commit(LayerInfo{.description = "x", .size_bytes = 10}).value_or(0);
    EXPECT_TRUE(store_->prune({.all = true}).value().empty());
    EXPECT_TRUE(is_there("layers/" + std::to_string(id)));
    use.reset();
    EXPECT_EQ(store_->prune({.all = true}).value().size(), 1U);
    EXPECT_FALSE(is_there("layers/" + std::to_string(id)));
}

TEST_F(StoreTest, PinHoldsForAsLongAsItLives) {
    LayerId id = 0;
    {
        const auto branch = store_->branch("test").value();
        id = std::move(branch->begin_layer().value()).commit(LayerInfo{.description = "x"}).value_or(0);
    }
    auto pin = store_->pin(Chain{{id}}).value();
    ASSERT_NE(pin, nullptr);
    auto second = store_->pin(Chain{{id}}).value();
    pin.reset();
    EXPECT_TRUE(store_->prune({.all = true}).value().empty());
    // A branch that nobody uses any more has no holds but its pins.
    auto branch = store_->branch("test").value();
    auto third = branch->pin(Chain{{id}}).value();
    branch.reset();
    second.reset();
    EXPECT_TRUE(store_->prune({.all = true}).value().empty());
    third.reset();
    EXPECT_EQ(store_->prune({.all = true}).value().size(), 1U);
    EXPECT_EQ(store_->pin(Chain{{id}}).value(), nullptr);
}

TEST_F(StoreTest, HoldOfAChainThatIsNotWholeHoldsNothing) {
    LayerId id = 0;
    {
        const auto branch = store_->branch("test").value();
        id = std::move(branch->begin_layer().value()).commit(LayerInfo{.description = "x"}).value_or(0);
    }
    EXPECT_FALSE(store_->hold(Chain{{id, id + 100}}).value());
    EXPECT_EQ(store_->prune({.all = true}).value().size(), 1U);
}

class PruneTest : public StoreTest {
protected:
    // A layer that took so long to make, and the result of the cache that ends with it.
    LayerId add(const Chain& below, std::uint64_t bytes, std::int64_t seconds) {
        LayerId id = 0;
        {
            const auto branch = store_->branch("test").value();
            id = std::move(branch->begin_layer().value()).commit({.description = "x", .size_bytes = bytes}).value_or(0);
        }
        EXPECT_TRUE(store_->database().run("UPDATE layers SET cost = ? WHERE id = ?", {seconds * 1'000'000'000, id}));
        EXPECT_TRUE(store_->add_cache({}, {{"key " + std::to_string(id), below.with(id).to_string(), clock_.now()}}));
        return id;
    }
    std::vector<std::string> pruned(const PruneOptions& options) {
        std::vector<std::string> ids;
        const auto removed = store_->prune(options).value();
        for (const auto& record : removed) ids.push_back(record.id);
        return ids;
    }
};
using Ids = std::vector<std::string>;

TEST_F(PruneTest, WhatIsOnTopGoesFirst) {
    const LayerId bottom = add({}, 1'000'000, 0);
    const LayerId middle = add({{bottom}}, 1'000, 100);
    add({{bottom, middle}}, 1'000, 1000);
    EXPECT_EQ(pruned({.all = true, .free_bytes = 1}), Ids{"layer-3"});
    EXPECT_EQ(pruned({.all = true}), (Ids{"layer-2", "layer-1"}));
}

TEST_F(PruneTest, WhatIsCheapForItsBytesGoesFirst) {
    add({}, 1'000, 10);
    add({}, 1'000'000, 100);
    add({}, 1'000'000, 10);
    EXPECT_EQ(pruned({.all = true, .dry_run = true}), (Ids{"layer-3", "layer-2", "layer-1"}));
    EXPECT_EQ(pruned({.all = true, .keep_bytes = 1'500'000}), Ids{"layer-3"});
}

TEST_F(PruneTest, ParentsOfWhatMayNotGoStay) {
    const LayerId bottom = add({}, 1'000, 0);
    add({{bottom}}, 1'000, 0);
    EXPECT_TRUE(pruned({.all = true, .equals = {{"id", "layer-1"}}}).empty());
    EXPECT_EQ(pruned({.all = true, .equals = {{"id", "layer-2"}}}), Ids{"layer-2"});
}

TEST_F(PruneTest, DryRunRemovesNothingAndSaysTheSame) {
    const LayerId bottom = add({}, 1'000, 0);
    add({{bottom}}, 1'000, 0);
    ASSERT_TRUE(store_->put_blob("nobody names it", "text/plain"));
    const auto planned = pruned({.all = true, .dry_run = true});
    EXPECT_EQ(planned.size(), 3U);
    EXPECT_EQ(pruned({.all = true, .dry_run = true}), planned);
    EXPECT_EQ(pruned({.all = true}), planned);
}

TEST_F(PruneTest, DirectoriesWithoutRowsGo) {
    const LayerId id = add({}, 1'000, 0);
    ASSERT_TRUE(store_->database().run("DELETE FROM layers WHERE id = ?", {id}));
    EXPECT_TRUE(is_there("layers/1"));
    EXPECT_TRUE(pruned({}).empty());
    EXPECT_FALSE(is_there("layers/1"));
}

TEST_F(PruneTest, WhyKeptNamesWhatHolds) {
    const LayerId bottom = add({}, 1'000, 0);
    add({{bottom}}, 1'000, 0);
    const auto branch = store_->branch("build abc").value();
    const auto pin = branch->pin(Chain{{2}}).value();
    const auto kept = store_->why_kept().value();
    ASSERT_EQ(kept.size(), 2U);
    EXPECT_EQ(kept[0].by, Ids{"on top of it layer-2"});
    EXPECT_EQ(kept[1].by, Ids{"build abc"});
}

TEST_F(PruneTest, CapRefusesWhatDoesNotFitAndRemovesCacheFirst) {
    constexpr std::uint64_t kCap = 12U << 20U;
    const std::string megabyte(1U << 20U, 'x');
    for (int i = 0; i < 6; ++i) {
        const auto branch = store_->branch("test").value();
        auto draft = branch->begin_layer().value();
        const sys::Fd file(::open((draft.host_path() + "/f").c_str(), O_WRONLY | O_CREAT, 0644));
        ASSERT_TRUE(sys::write_all(file.get(), megabyte));
        const auto id = std::move(draft).commit({.description = "cache", .size_bytes = megabyte.size()});
        ASSERT_TRUE(id);
        ASSERT_TRUE(store_->add_cache({}, {{"key " + std::to_string(*id), std::to_string(*id), clock_.now()}}));
    }
    ASSERT_TRUE(store_->limit_space(kCap));
    // Six are there, two are kept back; five more fit when cache goes.
    const auto branch = store_->branch("test").value();
    const auto use = branch->use();
    for (int i = 0; i < 5; ++i) {
        const auto blob = branch->put_blob(std::string(1U << 20U, static_cast<char>('a' + i)), "text/plain");
        ASSERT_TRUE(blob) << blob.error().to_string();
        EXPECT_LE(disk_bytes(root_), kCap);
    }
    EXPECT_LT(store_->usage().value().size(), 11U);
    bool refused = false;
    for (int i = 0; i < 12 && !refused; ++i) {
        const auto blob = branch->put_blob(std::string(1U << 20U, static_cast<char>('m' + i)), "text/plain");
        EXPECT_LE(disk_bytes(root_), kCap);
        if (blob) continue;
        refused = true;
        EXPECT_EQ(blob.error().code(), Code::resource_exhausted);
        EXPECT_NE(blob.error().message().find("max-disk"), std::string::npos) << blob.error().message();
    }
    EXPECT_TRUE(refused);
}

TEST_F(PruneTest, WriterThatIsWatchedIsStopped) {
    ASSERT_TRUE(store_->limit_space(8U << 20U));
    auto draft = store_->begin_layer().value();
    const auto watch = store_->space().watch("a test", {draft.host_path()}, Stop{});
    const sys::Fd file(::open((draft.host_path() + "/f").c_str(), O_WRONLY | O_CREAT, 0644));
    const std::string part(64U << 10U, 'x');
    std::uint64_t written = 0;
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!watch->stop().stop_requested() && std::chrono::steady_clock::now() < end) {
        if (written % (16U << 20U) == 0) ::lseek(file.get(), 0, SEEK_SET);
        ASSERT_TRUE(sys::write_all(file.get(), part));
        written += part.size();
    }
    EXPECT_TRUE(watch->stop().stop_requested());
    ASSERT_TRUE(watch->refused());
    EXPECT_NE(watch->refused()->message().find("a test"), std::string::npos);
}

TEST_F(StoreTest, BrokenOffBlobGoesOn) {
    const Digest digest = codec::sha256_of("hello");
    {
        auto first = store_->resume_blob(digest, Stop{});
        ASSERT_TRUE(first);
        ASSERT_TRUE(first->write(as_bytes("hel")));
    }
    auto second = store_->resume_blob(digest, Stop{});
    ASSERT_TRUE(second);
    EXPECT_EQ(second->offset(), 3U);
    ASSERT_TRUE(second->write(as_bytes("lo")));
    EXPECT_TRUE(std::move(*second).commit(digest));
    EXPECT_EQ(store_->read_blob(digest, 100).value_or(""), "hello");
}

TEST_F(StoreTest, DraftVanishesUnlessCommitted) {
    std::string path;
    {
        auto draft = store_->begin_layer();
        ASSERT_TRUE(draft);
        path = draft->host_path();
        EXPECT_EQ(::access(path.c_str(), F_OK), 0);
    }
    EXPECT_NE(::access(path.c_str(), F_OK), 0);
    EXPECT_EQ(::access(store_->layer_path(add_layer()).c_str(), F_OK), 0);
}

TEST_F(StoreTest, PruneKeepsWhatIsHeldOrNamed) {
    const LayerId held = add_layer();
    EXPECT_TRUE(store_->prune({.all = true}).value().empty());
    ASSERT_TRUE(store_->put_image({.name = "a", .chain = Chain{{held}}}, {}));
    open();  // the lease is gone, the image is not
    ASSERT_TRUE(store_->prune({.all = true}));
    EXPECT_TRUE(is_there("layers/" + std::to_string(held)));
    ASSERT_TRUE(store_->remove_image("a").value());
    ASSERT_TRUE(store_->add_cache({}, {{.key = "k", .result = std::to_string(held)}}));
    ASSERT_TRUE(store_->prune({}));
    EXPECT_TRUE(is_there("layers/" + std::to_string(held)));
    ASSERT_TRUE(store_->prune({.all = true}));
    EXPECT_FALSE(is_there("layers/" + std::to_string(held)));
    EXPECT_TRUE(store_->cache_results("k").value().empty());
    EXPECT_FALSE(store_->hold(Chain{{held}}).value());
}

TEST_F(StoreTest, WhatWasReleasedIsPruned) {
    const LayerId layer = add_layer();
    ASSERT_TRUE(store_->hold(Chain{{layer}}).value());
    EXPECT_TRUE(store_->usage()->front().in_use);
    ASSERT_TRUE(store_->release_holds());
    EXPECT_FALSE(store_->usage()->front().in_use);
    ASSERT_TRUE(store_->hold(Chain{{layer}}).value());  // and may be held again
    EXPECT_TRUE(store_->prune({.all = true}).value().empty());
    ASSERT_TRUE(store_->release_holds());
    ASSERT_TRUE(store_->prune({.all = true}));
    EXPECT_FALSE(is_there("layers/" + std::to_string(layer)));
    EXPECT_FALSE(store_->hold(Chain{{layer}}).value());
}

TEST_F(StoreTest, DamagedDatabaseIsBegunAnew) {
    store_.reset();
    const sys::Fd file(::open((root_ + "/cooper.db").c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC));
    ASSERT_TRUE(sys::write_all(file.get(), as_bytes(std::string(8192, 'x'))));
    open();
    ASSERT_NE(add_layer(), 0);
    EXPECT_TRUE(store_->verify().value().empty());
}

TEST_F(StoreTest, TreesAThousandDeepGo) {
    auto at = sys::Fd(::open(root_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    for (int i = 0; i < 1000; ++i) {
        ASSERT_EQ(::mkdirat(at.get(), "d", 0755), 0);
        at = sys::Fd(::openat(at.get(), "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    }
    const auto root = sys::RootedDir::open_host(root_);
    ASSERT_TRUE(root);
    const auto removed = remove_deep_tree(*root, "d");
    EXPECT_TRUE(removed) << removed.error().to_string();
    EXPECT_FALSE(is_there("d"));
}

// A writer is killed at a random moment a hundred times; every time the next open finds a sound store.
TEST_F(StoreTest, SurvivesKill) {
    store_.reset();
    std::srand(7);
    for (int round = 0; round < 100; ++round) {
        const pid_t child = ::fork();
        if (child == 0) {
            auto store = Store::open(root_, clock_);
            for (int i = 0; store; ++i) {
                static_cast<void>((*store)->put_blob(std::to_string(round * 100'000 + i), "t"));
                auto draft = (*store)->begin_layer();
                if (draft) static_cast<void>(std::move(*draft).commit(LayerInfo{}));
            }
            ::_exit(1);
        }
        ::usleep(static_cast<useconds_t>(std::rand() % 8000));
        ASSERT_EQ(::kill(child, SIGKILL), 0);
        int status = 0;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        ASSERT_TRUE(WIFSIGNALED(status));
        open();
        ASSERT_TRUE(store_);
        const auto wrong = store_->verify();
        ASSERT_TRUE(wrong);
        ASSERT_TRUE(wrong->empty()) << wrong->front();
        const auto tmp = sys::RootedDir::open_host(root_ + "/tmp");
        ASSERT_TRUE(sys::list_dir(tmp->fd()).value().empty());
        if (round % 20 == 0) {
            ASSERT_TRUE(store_->prune({.all = true}));
        }
        store_.reset();
    }
    open();
}

}  // namespace
}  // namespace cooper::store
