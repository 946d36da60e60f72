#include "remotecache/key_records.hpp"
#include "sys/temp_dir.hpp"

#include <gtest/gtest.h>

namespace cooper::remotecache {
namespace {

Digest digest(char fill) { return Digest::parse("sha256:" + std::string(64, fill)).value(); }

std::string refused(std::string_view json) {
    const auto parsed = parse_cache_config(json);
    return parsed ? "" : parsed.error().to_string();
}

TEST(CacheConfig, TheSameBytesForTheSameRecords) {
    CacheGraph graph;
    graph.layers = {digest('b'), digest('a'), digest('c')};
    graph.nodes.push_back({.op = digest('2'), .inputs = {}, .results = {{{0}, Timestamp{}}}});
    graph.nodes.push_back({.op = digest('1'),
                           .inputs = {{{digest('5'), 0}, {{}, 0}}},
                           .results = {{{0, 1}, Timestamp{std::chrono::seconds(1)}}, {{2}, Timestamp{}}}});
    const std::string text = marshal_cache_config(graph);
    const auto d = [](char c) { return "\"sha256:" + std::string(64, c) + "\""; };
    EXPECT_EQ(text, R"({"layers":[{"blob":)" + d('a') + R"(,"parent":1},{"blob":)" + d('b') +
                        R"(,"parent":-1},{"blob":)" + d('c') +
                        R"(,"parent":-1}],"records":[{"layers":[{"layer":0,"createdAt":"1970-01-01T00:00:01Z"},)" +
                        R"({"layer":2,"createdAt":"0001-01-01T00:00:00Z"}],"digest":)" + d('1') +
                        R"(,"inputs":[[{"link":1},{"selector":)" + d('5') +
                        R"(,"link":1}]]},{"layers":[{"layer":1,"createdAt":"0001-01-01T00:00:00Z"}],"digest":)" +
                        d('2') + "}]}");
    // In another order.
    CacheGraph other;
    other.layers = {digest('c'), digest('a'), digest('b')};
    other.nodes.push_back({.op = digest('2'), .inputs = {}, .results = {{{2}, Timestamp{}}}});
    other.nodes.push_back({.op = digest('1'),
                           .inputs = {{{{}, 0}, {digest('5'), 0}}},
                           .results = {{{2, 1}, Timestamp{std::chrono::seconds(1)}}, {{0}, Timestamp{}}}});
    EXPECT_EQ(marshal_cache_config(other), text);
    const auto back = parse_cache_config(text);
    ASSERT_TRUE(back);
    EXPECT_EQ(marshal_cache_config(*back), text);
}

TEST(CacheConfig, AParentLeftOutIsTheFirstLayer) {
    const std::string a = digest('a').to_string(), b = digest('b').to_string();
    const auto graph = parse_cache_config(R"({"layers":[{"blob":")" + a + R"(","parent":-1},{"blob":")" + b +
                                          R"("}],"records":[{"digest":")" + a + R"(","layers":[{"layer":1}]}]})");
    ASSERT_TRUE(graph);
    EXPECT_EQ(graph->nodes[0].results[0].layers, (std::vector<std::size_t>{0, 1}));
}

TEST(CacheConfig, FactsOfLayersAreInTheText) {
    CacheGraph graph;
    graph.layers = {digest('a')};
    graph.nodes.push_back({.op = digest('1'), .inputs = {}, .results = {{{0}, Timestamp{}}}});
    graph.facts[digest('a')] = {.media_type = "application/vnd.oci.image.layer.v1.tar+gzip",
                                .diff_id = digest('d'),
                                .size = 7,
                                .created = Timestamp{std::chrono::seconds(1)}};
    const std::string text = marshal_cache_config(graph);
    EXPECT_TRUE(text.starts_with(
        R"({"layers":[{"blob":")" + digest('a').to_string() +
        R"(","parent":-1,"annotations":{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","diffID":")" +
        digest('d').to_string() + R"(","size":7,"createdAt":"1970-01-01T00:00:01Z"}}],"records":[)"))
        << text;
    const auto back = parse_cache_config(text);
    ASSERT_TRUE(back);
    EXPECT_EQ(marshal_cache_config(*back), text);
    EXPECT_NE(refused(R"({"layers":[{"blob":")" + digest('a').to_string() + R"(","annotations":{"size":-1}}]})"), "");
}

TEST(CacheConfig, GraphsAreMerged) {
    const auto graph = [](char base, char layer) {
        CacheGraph one;
        one.layers = {digest(layer)};
        one.nodes.push_back({.op = digest('1'), .inputs = {}, .results = {}});
        one.nodes.push_back({.op = digest(base), .inputs = {{{{}, 0}}}, .results = {{{0}, Timestamp{}}}});
        return one;
    };
    CacheGraph both = graph('2', 'a');
    merge_into(both, graph('3', 'b'));
    EXPECT_EQ(both.nodes.size(), 3U);
    EXPECT_EQ(both.nodes[2].inputs[0][0].node, 0U);
    EXPECT_EQ(both.layers[both.nodes[2].results[0].layers[0]], digest('b'));
    const std::string text = marshal_cache_config(both);
    merge_into(both, graph('3', 'b'));
    EXPECT_EQ(marshal_cache_config(both), text);
}

TEST(CacheConfig, WhatIsWrongIsRefused) {
    const std::string d = digest('a').to_string();
    EXPECT_NE(refused("["), "");
    EXPECT_NE(refused("[]"), "");
    EXPECT_NE(refused(R"({"records":{}})"), "");
    EXPECT_NE(refused(R"({"records":[{}]})"), "");
    EXPECT_NE(refused(R"({"records":[{"digest":"md5:1"}]})"), "");
    EXPECT_NE(refused(R"({"records":[{"digest":")" + d + R"(","layers":[{"layer":0}]}]})"), "");
    EXPECT_NE(refused(R"({"records":[{"digest":")" + d + R"(","layers":[{}]}]})"), "");
    EXPECT_NE(refused(R"({"records":[{"digest":")" + d + R"(","inputs":[[{"link":1}]]}]})"), "");
    EXPECT_NE(refused(R"({"records":[{"digest":")" + d + R"(","inputs":[[{"link":-1}]]}]})"), "");
    EXPECT_NE(
        refused(R"({"records":[{"digest":")" + d + R"(","inputs":[[{"link":0}]]}]})").find("depend on themselves"),
        std::string::npos);
    EXPECT_NE(refused(R"({"layers":[{"blob":")" + d + R"("}]})").find("own parents"), std::string::npos);
    EXPECT_NE(refused(R"({"layers":[{"blob":")" + d + R"(","parent":7}]})"), "");
    EXPECT_EQ(refused("{}"), "");
    EXPECT_EQ(refused(R"({"layers":null,"records":null})"), "");
}

TEST(InlineRecords, LayersAreThoseOfTheImage) {
    CacheGraph graph;
    graph.layers = {digest('a'), digest('b')};
    graph.nodes.push_back({.op = digest('1'), .inputs = {}, .results = {{{0, 1}, Timestamp{}}, {{1}, Timestamp{}}}});
    const std::string text = marshal_inline_records(graph);
    EXPECT_EQ(text, R"([{"layers":[{"layer":1,"createdAt":"0001-01-01T00:00:00Z"}],"chains":[{"layers":[1],)"
                    R"("createdAt":"0001-01-01T00:00:00Z"}],"digest":")" +
                        digest('1').to_string() + R"("}])");
    const auto back = parse_inline_records(text, graph.layers);
    ASSERT_TRUE(back);
    EXPECT_EQ(marshal_inline_records(*back), text);
    EXPECT_FALSE(parse_inline_records(text, {digest('a')}));
}

class Records : public ::testing::Test {
protected:
    void SetUp() override {
        dir_.emplace(sys::TempDir::create("/tmp", "remotecache-").value());
        one_ = store::Store::open(dir_->path() + "/one", clock_).value();
        two_ = store::Store::open(dir_->path() + "/two", clock_).value();
    }
    FakeClock clock_;
    std::optional<sys::TempDir> dir_;
    std::unique_ptr<store::Store> one_, two_;
};

// A base, a copy of a context that is known by content only, and a step on both: from one store to the other.
TEST_F(Records, TravelFromStoreToStore) {
    const auto lazy = [](char fill) {
        return store::LazyLayer{
            .blob = {.media_type = "application/vnd.oci.image.layer.v1.tar+gzip", .digest = digest(fill), .size = 1},
            .reference = "registry.example/cache"};
    };
    const store::LayerId base = one_->add_lazy_layer(digest('a'), lazy('1')).value();
    const store::LayerId top = one_->add_lazy_layer(digest('b'), lazy('2')).value();
    const auto base_key = solver::make_root_key(digest('d'), 0, {}, false);
    const auto context_key = solver::make_root_key(digest('e'), 0, {}, true);
    const auto content_key = solver::make_content_key(digest('f'));
    const auto copy_key = solver::make_derived_key(
        {.digest = digest('7'),
         .inputs = {{{.selector = {}, .key = base_key}},
                    {{.selector = digest('9'), .key = context_key}, {.selector = {}, .key = content_key}}}});
    ASSERT_FALSE(copy_key->ephemeral);
    const auto op = solver::root_key_id(digest('7'), 0);
    ASSERT_TRUE(one_->add_cache({{base_key->id, link_text(0, op, {}), copy_key->id},
                                 {content_key->id, link_text(1, op, {}), copy_key->id},
                                 {"random:x", link_text(1, op, digest('9')), copy_key->id}},
                                {{base_key->id, store::Chain{{base}}.to_string(), clock_.now()},
                                 {copy_key->id, store::Chain{{base, top}}.to_string(), clock_.now()}}));

    auto collected = collect(*one_, {copy_key}, {store::Chain{{base, top}}}, CacheMode::max);
    ASSERT_TRUE(collected) << collected.error().to_string();
    ASSERT_EQ(collected->graph.nodes.size(), 3U);
    std::map<Digest, LayerPlace> places;
    for (std::size_t i = 0; i < collected->layers.size(); ++i) {
        const auto record = one_->layer(collected->layers[i]).value();
        collected->graph.layers[i] = record.lazy->blob.digest;
        places[record.lazy->blob.digest] = {record.lazy->blob, *record.info.diff_id, "registry.example/cache"};
    }
    const auto graph = parse_cache_config(marshal_cache_config(collected->graph));
    ASSERT_TRUE(graph);
    const auto imported = import_graph(*two_, *graph, places);
    ASSERT_TRUE(imported);
    EXPECT_EQ(imported->records, 3U);
    EXPECT_EQ(imported->results, 2U);

    // Found over both inputs, under the id that a build of its own would give.
    EXPECT_EQ(two_->cache_links(base_key->id, link_text(0, op, {})).value(), std::vector<std::string>{copy_key->id});
    EXPECT_EQ(two_->cache_links(content_key->id, link_text(1, op, {})).value(), std::vector<std::string>{copy_key->id});
    const auto results = two_->cache_results(copy_key->id).value();
    ASSERT_EQ(results.size(), 1U);
    const auto chain = store::Chain::parse(results[0].result).value();
    ASSERT_EQ(chain.layers.size(), 2U);
    EXPECT_EQ(two_->layer(chain.layers[1]).value().info.diff_id, digest('b'));
    ASSERT_TRUE(import_graph(*two_, *graph, places));
    EXPECT_EQ(two_->cache_results(copy_key->id).value().size(), 1U);
    // Without its layer a record is there, and its result is not.
    places.erase(digest('2'));
    EXPECT_EQ(import_graph(*two_, *graph, places)->results, 1U);
}

TEST_F(Records, MinKeepsWhatTheResultHas) {
    const auto layer = [&](char fill) {
        return one_->add_lazy_layer(digest(fill), {.blob = {.digest = digest(fill), .size = 1}, .reference = "r"})
            .value();
    };
    const store::LayerId base = layer('a'), side = layer('b'), top = layer('c');
    const auto base_key = solver::make_root_key(digest('1'), 0, {}, false);
    const auto side_key = solver::make_root_key(digest('2'), 0, {}, false);
    const auto key = solver::make_derived_key(
        {.digest = digest('3'), .inputs = {{{.selector = {}, .key = base_key}}, {{.selector = {}, .key = side_key}}}});
    const auto op = solver::root_key_id(digest('3'), 0);
    const store::Chain result{{base, top}};
    ASSERT_TRUE(
        one_->add_cache({{base_key->id, link_text(0, op, {}), key->id}, {side_key->id, link_text(1, op, {}), key->id}},
                        {{base_key->id, store::Chain{{base}}.to_string(), clock_.now()},
                         {side_key->id, store::Chain{{side}}.to_string(), clock_.now()},
                         {key->id, result.to_string(), clock_.now()}}));
    const auto all = collect(*one_, {key}, {result}, CacheMode::max);
    ASSERT_TRUE(all);
    EXPECT_EQ(all->layers.size(), 3U);
    const auto some = collect(*one_, {key}, {result}, CacheMode::min);
    ASSERT_TRUE(some);
    EXPECT_EQ(some->graph.nodes.size(), 3U);
    EXPECT_EQ(some->layers, (std::vector<store::LayerId>{base, top}));
}

}  // namespace
}  // namespace cooper::remotecache
