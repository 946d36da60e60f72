#include "remotecache/budget.hpp"

#include <gtest/gtest.h>

namespace cooper::remotecache {
namespace {

Digest digest(char fill) { return Digest::parse("sha256:" + std::string(64, fill)).value(); }

// Results on base 0: [0], [0 1], [0 1 2], [0 3]; blob 4 is the same as 3.
CacheGraph example() {
    CacheGraph graph;
    graph.layers = {digest('0'), digest('1'), digest('2'), digest('3'), digest('3')};
    for (const std::vector<std::size_t>& chain : {std::vector<std::size_t>{0}, {0, 1}, {0, 1, 2}, {0, 3}, {0, 1, 4}}) {
        graph.nodes.push_back({.op = digest('a'), .inputs = {}, .results = {{chain, Timestamp{}}}});
    }
    return graph;
}

TEST(Budget, TheMostSecondsPerByteGoFirst) {
    const std::vector<LayerWorth> worth = {{100, 0}, {1000, 1}, {10, 60}, {500, 100}, {500, 100}};
    const CacheGraph graph = example();
    EXPECT_EQ(most_valuable(graph, worth, 5000), (std::vector<std::size_t>{0, 3, 4, 1, 2}));
    // No room for layer 1, so 2 is of no use.
    EXPECT_EQ(most_valuable(graph, worth, 1000), (std::vector<std::size_t>{0, 3, 4}));
    EXPECT_EQ(most_valuable(graph, worth, 100), (std::vector<std::size_t>{0}));
    EXPECT_TRUE(most_valuable(graph, worth, 99).empty());
}

TEST(Budget, ResultsWithoutTheirLayersGo) {
    CacheGraph graph = example();
    keep_layers(graph, {true, false, true, true, true});
    EXPECT_EQ(graph.nodes.size(), 5U);
    EXPECT_EQ(graph.nodes[0].results.size(), 1U);
    EXPECT_TRUE(graph.nodes[1].results.empty());
    EXPECT_TRUE(graph.nodes[2].results.empty());
    EXPECT_EQ(graph.nodes[3].results.size(), 1U);
    EXPECT_TRUE(graph.nodes[4].results.empty());
}

}  // namespace
}  // namespace cooper::remotecache
