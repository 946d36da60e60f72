#include "remotecache/budget.hpp"

#include <algorithm>
#include <map>
#include <queue>
#include <set>

namespace cooper::remotecache {

namespace {

constexpr double kLeastSeconds = 0.001;  // so that of what took no time the smallest goes first

class Choice {
public:
    Choice(const CacheGraph& graph, const std::vector<LayerWorth>& worth, std::uint64_t max_bytes)
        : worth_(worth), left_(max_bytes), chosen_(graph.layers.size(), false), blob_of_(graph.layers.size()) {
        std::map<Digest, std::size_t> first;
        for (std::size_t i = 0; i < graph.layers.size(); ++i)
            blob_of_[i] = first.try_emplace(graph.layers[i], i).first->second;
        std::set<std::vector<std::size_t>> chains;
        for (const CacheNode& node : graph.nodes) {
            for (const auto& result : node.results) chains.insert(result.layers);
        }
        for (const auto& chain : chains) push(&*all_.insert(chain).first);
    }

    std::vector<std::size_t> take() {
        std::vector<std::size_t> order;
        while (!queue_.empty()) {
            const Candidate best = queue_.top();
            queue_.pop();
            // Others were chosen since it was looked at: they may have paid for a part of it.
            const Price now = price(*best.chain);
            if (density(now) < best.density && !queue_.empty() && density(now) < queue_.top().density) {
                queue_.push({density(now), best.chain});
                continue;
            }
            if (now.bytes > left_) continue;
            left_ -= now.bytes;
            for (const std::size_t layer : *best.chain) {
                const std::size_t blob = blob_of_[layer];
                if (chosen_[blob]) continue;
                chosen_[blob] = true;
                order.push_back(blob);
            }
        }
        // Every place of a blob, not only its first.
        std::vector<std::size_t> places;
        for (const std::size_t blob : order) {
            for (std::size_t i = blob; i < blob_of_.size(); ++i) {
                if (blob_of_[i] == blob) places.push_back(i);
            }
        }
        return places;
    }

private:
    struct Price {
        std::uint64_t bytes = 0;
        double seconds = 0;
    };
    struct Candidate {
        double density = 0;
        const std::vector<std::size_t>* chain = nullptr;
        bool operator<(const Candidate& other) const {
            return density != other.density ? density < other.density : *chain > *other.chain;
        }
    };

    [[nodiscard]] Price price(const std::vector<std::size_t>& chain) const {
        Price sum;
        std::set<std::size_t> seen;
        for (const std::size_t layer : chain) {
            const std::size_t blob = blob_of_[layer];
            if (chosen_[blob] || !seen.insert(blob).second) continue;
            sum.bytes += worth_[blob].bytes;
            sum.seconds += worth_[blob].seconds;
        }
        return sum;
    }
    static double density(const Price& price) {
        return (price.seconds + kLeastSeconds) / static_cast<double>(price.bytes + 1);
    }
    void push(const std::vector<std::size_t>* chain) { queue_.push({density(price(*chain)), chain}); }

    const std::vector<LayerWorth>& worth_;
    std::uint64_t left_;
    std::vector<bool> chosen_;          // by the first place of a blob
    std::vector<std::size_t> blob_of_;  // the first place of the same blob
    std::set<std::vector<std::size_t>> all_;
    std::priority_queue<Candidate> queue_;
};

}  // namespace

std::vector<std::size_t> most_valuable(const CacheGraph& graph, const std::vector<LayerWorth>& worth,
                                       std::uint64_t max_bytes) {
    return Choice(graph, worth, max_bytes).take();
}

void keep_layers(CacheGraph& graph, const std::vector<bool>& kept) {
    for (CacheNode& node : graph.nodes) {
        std::erase_if(node.results, [&](const auto& result) {
            return std::ranges::any_of(result.layers, [&](std::size_t layer) { return !kept[layer]; });
        });
    }
}

}  // namespace cooper::remotecache
