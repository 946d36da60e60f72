#include "exporter/squash.hpp"

#include "exporter/test_support.hpp"
#include "snapshot/layer_builder.hpp"

#include <algorithm>
#include <array>
#include <random>

namespace cooper::exporter {
namespace {

class SquashTest : public StoreTest {
protected:
    [[nodiscard]] std::vector<snapshot::LayerDir> dirs_of(const store::Chain& chain) const {
        std::vector<std::pair<std::int64_t, std::string>> paths;
        for (const store::LayerId id : chain.layers) paths.emplace_back(id, store_->layer_path(id));
        return snapshot::open_layers(paths).value();
    }

    [[nodiscard]] Digest hash_of(const store::Chain& chain) const {
        const auto view = snapshot::ChainView::create(dirs_of(chain), snapshot::ChainView::TopLayer::committed).value();
        return hash_tree(*view, Stop{}).value();
    }

    // What a step might do: files written, changed in their mode, removed, linked; directories replaced.
    store::LayerId random_layer(const store::Chain& below, std::mt19937& random) {
        auto draft = store_->begin_layer().value();
        const auto builder = snapshot::LayerBuilder::create(dirs_of(below), draft.open().value()).value();
        const auto pick = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
        static const std::array<std::string, 4> kDirs = {"/", "/a", "/a/b", "/c"};
        const auto meta = [&] {
            return snapshot::Meta{.uid = static_cast<std::uint32_t>(pick(2)),
                                  .mode = pick(2) == 0 ? 0644U : 0700U,
                                  .mtime_ns = 1'700'000'000'000'000'000 + pick(3)};
        };
        for (int i = pick(5); i >= 0; --i) {
            const std::string path = kDirs[static_cast<std::size_t>(pick(4))];
            const std::string name = "f" + std::to_string(pick(4));
            auto root = builder->root().value();
            if (path != "/") {
                const std::string top = path.substr(1, 1);
                const auto there = root->find(top).value();
                if (there && there->kind != snapshot::Kind::directory) {
                    EXPECT_TRUE(root->remove(top));
                }
            }
            const snapshot::Meta of_dirs{.mode = 0755, .mtime_ns = 1'600'000'000'000'000'000};
            auto dir = builder->make_dirs(path, of_dirs, nullptr).value();
            switch (pick(7)) {
                case 0:
                case 1:
                    EXPECT_TRUE(dir->remove(name));
                    EXPECT_TRUE(dir->put_bytes(name, std::string(100, static_cast<char>('a' + pick(3))), meta()));
                    break;
                case 2: {
                    const auto text = builder->view()->read_file(path + "/" + name, 1000).value();
                    if (!text) break;
                    EXPECT_TRUE(dir->remove(name));
                    EXPECT_TRUE(dir->put_bytes(name, *text, meta()));
                    break;
                }
                case 3:
                    EXPECT_TRUE(dir->remove(name));
                    break;
                case 4:
                    EXPECT_TRUE(dir->remove(name));
                    EXPECT_TRUE(dir->remove(name + "-link"));
                    EXPECT_TRUE(dir->put_bytes(name, std::string(50, 'l'), meta()));
                    EXPECT_TRUE(dir->put_hard_link(name + "-link", *dir, name));
                    break;
                case 5:
                    EXPECT_TRUE(root->remove("c"));
                    if (pick(2) == 0) {
                        EXPECT_TRUE(root->put_bytes("c", "no directory any more", meta()));
                    }
                    break;
                default:
                    EXPECT_TRUE(dir->set_meta(meta()));
            }
        }
        EXPECT_TRUE(builder->finish());
        return std::move(draft).commit(store::LayerInfo{.description = "random"}).value();
    }
};

TEST_F(SquashTest, AnyLayersKeepTheirTreeAndLoseTheirWaste) {
    int gave_up = 0;
    for (unsigned seed = 0; seed < 60; ++seed) {
        std::mt19937 random(seed);
        store::Chain chain;
        for (int layer = 0; layer < 7; ++layer) chain.layers.push_back(random_layer(chain, random));
        const std::size_t base = seed % 3;
        const Digest before = hash_of(chain);
        const auto squashed = squash_waste(*store_, chain, base, 1, stop_);
        ASSERT_TRUE(squashed) << "seed " << seed << ": " << squashed.error().to_string();
        ASSERT_EQ(hash_of(squashed->chain), before) << seed;
        ASSERT_EQ(squashed->chain.layers.size() + squashed->emptied.size(), chain.layers.size()) << seed;
        for (std::size_t i = 0; i < base; ++i) ASSERT_EQ(squashed->chain.layers[i], chain.layers[i]);
        if (squashed->gave_up) {
            ++gave_up;
            continue;
        }
        const auto again = squash_waste(*store_, squashed->chain, base, 1, stop_);
        ASSERT_OK(again);
        EXPECT_EQ(again->saved_bytes, 0U) << "seed " << seed;
        EXPECT_EQ(again->chain, squashed->chain);
    }
    // Hard links in the place of equal files of the base: rare, even here.
    EXPECT_LE(gave_up, 3);
}

TEST_F(SquashTest, LayersWithoutWasteStay) {
    store::Chain chain;
    chain.layers = {make_layer({{"base", "1"}}, "base"), make_layer({{"a", "12345"}}, "a"),
                    make_layer({{"b", "12345"}}, "b"), make_layer({{"a", "(whiteout)"}}, "rm a"),
                    make_layer({{"c", "12345"}}, "c")};
    const auto squashed = squash_waste(*store_, chain, 1, 1, stop_);
    ASSERT_OK(squashed);
    EXPECT_EQ(squashed->saved_bytes, 5U);
    EXPECT_EQ(squashed->chain.layers.front(), chain.layers.front());
    EXPECT_NE(std::ranges::find(squashed->chain.layers, chain.layers[2]), squashed->chain.layers.end());
    EXPECT_EQ(squashed->chain.layers.back(), chain.layers.back());
    // The second time it is remembered.
    const auto again = squash_waste(*store_, chain, 1, 1, stop_);
    ASSERT_OK(again);
    EXPECT_EQ(again->chain, squashed->chain);
    EXPECT_EQ(again->emptied, squashed->emptied);
    EXPECT_EQ(again->tree, squashed->tree);
}

TEST_F(SquashTest, HistoryNamesWhatIsEmptyAndKeepsTimes) {
    store::Chain chain;
    chain.layers = {make_layer({{"base", "1"}}, "base"), make_layer({{"x/a", "12345"}}, "a"),
                    make_layer({{"x/a", "(whiteout)"}, {"x/b", "1"}}, "rm a"),
                    make_layer({{"x/b", "(whiteout)"}}, "rm b")};
    oci::ImageConfig config;
    config.history = {{.created_by = "base"},
                      {.created_by = "ENV", .empty_layer = true},
                      {.created_by = "a"},
                      {.created_by = "rm a"},
                      {.created_by = "rm b"}};
    const auto squashed = squash_waste(*store_, chain, 1, 1, stop_);
    ASSERT_OK(squashed);
    ASSERT_OK(squash_history(*store_, chain, *squashed, config));
    EXPECT_EQ(static_cast<std::size_t>(std::ranges::count(config.history, false, &oci::HistoryEntry::empty_layer)),
              squashed->chain.layers.size());
    EXPECT_TRUE(config.history[2].created);
    EXPECT_FALSE(config.history[1].created);
}

TEST_F(SquashTest, TheHashSeesEverything) {
    const auto layer = [&](const std::string& text) {
        return store::Chain{{make_layer({{"f", text}, {"g", text}}, "x")}};
    };
    const store::Chain one = layer("a");
    const Digest before = hash_of(one);
    EXPECT_EQ(hash_of(layer("a")), before);
    EXPECT_NE(hash_of(layer("b")), before);
    const std::string root = store_->layer_path(one.layers[0]);
    ASSERT_EQ(::chmod((root + "/f").c_str(), 0600), 0);
    EXPECT_NE(hash_of(one), before);
    ASSERT_EQ(::chmod((root + "/f").c_str(), 0644), 0);
    EXPECT_EQ(hash_of(one), before);
    ASSERT_EQ(::unlink((root + "/g").c_str()), 0);
    ASSERT_EQ(::link((root + "/f").c_str(), (root + "/g").c_str()), 0);
    touch(root);
    EXPECT_NE(hash_of(one), before);
}

}  // namespace
}  // namespace cooper::exporter
